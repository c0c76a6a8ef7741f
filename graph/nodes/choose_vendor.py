"""choose_vendor: ask the market, and decide. A model may look things up first, through tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.types import Command

from domain.journal import Note, NoteType
from domain.quotes import Offer, Vendor, able_vendors
from domain.ranking import Abort, Rent, Wait, verdict
from domain.reasons import Reason
from graph.context import TickContext
from graph.planner.meter import TokenMeter
from graph.planner.planners import Consult, Decided, Situation
from graph.planner.situation import by_ranking
from graph.routing import Phase, go, rest
from graph.state import FORGET, AgentState
from graph.steps.changes import note_if_changed
from graph.steps.ending import give_up
from graph.steps.permitted import refused_offers
from graph.steps.quotes import quotes_of
from graph.steps.work import failures, left_for, spec_of, under_way
from ledger.run import RecordedOffer, Silence


async def choose_vendor(state: AgentState, context: TickContext) -> Command[str]:
    conversation = _conversation(state)
    slot, waits = state.get("open_slot"), state.get("waits") or 0
    if await under_way(context, slot):
        return go(Phase.ASSESS_BUDGET, decision=None, open_slot=None, planning=[FORGET])
    vendors = await _able(context, slot)
    stale = bool(conversation) and _all_expired(context)
    asked = stale or not conversation
    quoted = await _ask(context, vendors) if asked else list(context.run.offers)
    news = _market(context, quoted) if asked else []
    total = context.run.budget_total
    situation = await _situation(context, vendors, quoted, slot, waits)
    step: Decided | Consult
    if stale:  # another conversation could take as long
        step = Decided(by_ranking(situation), "ranking", fallback="every quote expired meanwhile")
    else:
        planner = context.deps.planner
        tools = context.deps.lookup_tools(context.run) if planner.looks_up else []
        step = await planner.next(situation, conversation, tools)
    if step.used.calls:
        await context.ledger.runs.count_model(context.run.id, step.used)
        await context.reread()
    if isinstance(step, Consult):
        kept = [] if conversation else [FORGET]
        found = note_if_changed(state, context, Phase.TOOLS, news)
        return go(Phase.TOOLS, planning=[*kept, *step.messages], found=found)
    news.append(_decided(situation, step))
    found = note_if_changed(state, context, Phase.CHOOSE_VENDOR, news)
    await _record(context, situation, step)
    match step.decision:
        case Rent(quote, _):
            decision = {
                "vendor_id": quote.vendor_id,
                "template_id": quote.template_id,
                "slot": slot if slot is not None else context.run.next_slot,
            }
            return go(Phase.APPROVE, decision=decision, planning=[FORGET], waits=0, found=found)
        case Wait(reason) | Abort(reason) if slot is not None:
            # No second vendor fits, and the first may still take the payment.
            return rest(
                Phase.LAUNCH,
                f"Waiting for the first vendor: {reason}",
                open_slot=None,
                planning=[FORGET],
                found=found,
            )
        case Wait(reason):
            return rest(
                Phase.ASSESS_BUDGET,
                f"Waiting: {reason}",
                planning=[FORGET],
                waits=waits + 1,
                found=found,
            )
        case Abort(reason):
            return await give_up(context, reason, total)


def _conversation(state: AgentState) -> list[AnyMessage]:
    """The conversation so far; none when a crash left a tool call without its answer."""
    messages = state.get("planning") or []
    return [] if not messages or isinstance(messages[-1], AIMessage) else messages


def _all_expired(context: TickContext) -> bool:
    now = context.deps.now()
    return all(offer.quote.expired(now) for offer in context.run.offers)


async def _able(context: TickContext, slot: int | None) -> list[Vendor]:
    """The vendors that can run the job and do not hold an authorization for the slot already."""
    vendors = able_vendors(await context.ledger.vendors.all(), spec_of(context.run))
    if slot is None:
        return vendors
    # A second vendor for a slot is paid with the same nonce, at an address of its own.
    holders = await context.ledger.payments.of_slot(context.run.id, slot)
    ids, addresses = {p.vendor_id for p in holders}, {p.pay_to.lower() for p in holders}
    return [
        v
        for v in vendors
        if v.pay_to is not None and v.vendor_id not in ids and v.pay_to.lower() not in addresses
    ]


async def _ask(context: TickContext, able: Sequence[Vendor]) -> list[RecordedOffer]:
    deps = context.deps
    quotes, without = await quotes_of(
        deps.vendors, able, spec_of(context.run), deps.limits, deps.now()
    )
    offers = [RecordedOffer(quote, "") for quote in quotes]
    silences = [
        Silence(silence.vendor_id, silence.problem, Reason(silence.problem).data)
        for silence in without
    ]
    await context.ledger.runs.set_offers(context.lease, offers, silences)
    await context.reread()
    return offers


async def _situation(
    context: TickContext,
    able: Sequence[Vendor],
    quoted: Sequence[RecordedOffer],
    slot: int | None,
    waits: int,
) -> Situation:
    now, vendors = context.deps.now(), {vendor.vendor_id: vendor for vendor in able}
    failed, spec = await failures(context), spec_of(context.run)
    offers = tuple(
        Offer(
            o.quote,
            vendors[o.quote.vendor_id],
            failed[o.quote.vendor_id],
            needed_minutes=spec.minutes,
            as_of=now,
        )
        for o in quoted
        if o.quote.vendor_id in vendors and not o.quote.expired(now)
    )
    return Situation(
        goal=context.run.goal,
        offers=offers,
        left=left_for(context.run, slot),
        patience=True,
        minutes_left=spec.minutes_left(now),
        preference=spec.preference,
        waits=waits,
        model_tokens=context.run.model.tokens,
        meter=TokenMeter(context.deps, context.run.user_id, context.run.id),
        refused=await refused_offers(
            context, offers, context.run.next_slot if slot is None else slot
        ),
    )


def _market(context: TickContext, quoted: Sequence[RecordedOffer]) -> list[Note]:
    """What was found on the market."""
    needed_minutes = spec_of(context.run).minutes
    return [
        Note(
            NoteType.QUOTE,
            f"{q.vendor_id} offers {q.minutes} minutes of {q.gpu_type} for {q.price}",
            {
                "vendorId": q.vendor_id,
                "priceMicros": q.price.micros,
                "minutes": q.minutes,
                "gpuType": q.gpu_type,
                "wholeMicros": q.whole(needed_minutes).micros,
            },
        )
        for q in (offer.quote for offer in quoted)
    ] + [
        Note(NoteType.NO_QUOTE, f"{s.vendor_id}: {s.why}", {"vendorId": s.vendor_id, "why": s.why})
        for s in context.run.no_quotes
    ]


def _decided(situation: Situation, step: Decided) -> Note:
    """The decision, with its reason."""
    reason, facts = step.decision.reason, dict[str, Any]()
    match step.decision:
        case Rent(quote, _):
            facts["vendorId"] = quote.vendor_id
            text = (
                f"Budget remaining: {situation.left}\nQuote: {quote.price}\n"
                f"Proceeding with payment via x402 to vendor {quote.vendor_id}: {reason}"
            )
        case Wait(_):
            text = f"Renting nothing now: {reason}"
        case Abort(_):
            text = f"Giving up: {reason}"
    facts |= {
        "decision": type(step.decision).__name__.lower(),
        "reason": reason,
        "reasonData": Reason(reason).data,
        "planner": step.planner,
        "fallback": bool(step.fallback),
        "fallbackReason": step.fallback,
        **(step.facts or {}),
    }
    return Note(NoteType.AGENT_REASONING, text, facts)


async def _record(context: TickContext, situation: Situation, step: Decided) -> None:
    """Beside each offer, why it was (not) taken."""
    await context.ledger.runs.set_offers(
        context.lease,
        [
            RecordedOffer(offer.quote, _verdict(offer, situation, step))
            for offer in situation.offers
        ],
    )


def _verdict(offer: Offer, situation: Situation, step: Decided) -> str:
    if why := situation.refused.get(offer.quote.vendor_id):
        return f"against the spending policy: {why}"
    return verdict(offer, step.decision, situation.left, situation.minutes_left)
