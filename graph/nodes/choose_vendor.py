"""choose_vendor: ask the market, and decide. A model may look things up first, through tools."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, RemoveMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command

from domain.quotes import Offer, Vendor
from domain.ranking import Abort, Rent, Wait, verdict
from graph.deps import Desk
from graph.nodes.assess_budget import give_up
from graph.planner import Consult, Decided, Situation
from graph.routing import Phase, go, rest
from graph.state import AgentState
from graph.work import failures, left_for, spec_of
from ledger.runs import RecordedOffer
from tools.lookup import lookup_tools
from tools.market import ask_for_quotes

FORGET = RemoveMessage(id=REMOVE_ALL_MESSAGES)


async def choose_vendor(state: AgentState, desk: Desk) -> Command[str]:
    conversation = _conversation(state)
    slot = state.get("open_slot")
    able = await _able(desk, slot)
    quoted = await _ask(desk, able) if not conversation else list(desk.run.offers)
    situation = await _situation(desk, able, quoted, slot)
    step = await desk.deps.planner.next(situation, conversation, lookup_tools(desk.deps, desk.run))
    if isinstance(step, Consult):
        kept = [] if conversation else [FORGET]
        return go(Phase.TOOLS, planning=[*kept, *step.messages])
    await _record(desk, situation, step)
    match step.decision:
        case Rent(quote, _):
            decision = {
                "vendor_id": quote.vendor_id,
                "template_id": quote.template_id,
                "slot": slot if slot is not None else desk.run.next_slot,
            }
            return go(Phase.APPROVE, decision=decision, planning=[FORGET])
        case Wait(reason) | Abort(reason) if slot is not None:
            # The first vendor may still take the payment; nobody else will do.
            return rest(
                Phase.LAUNCH, f"Waiting for the first vendor: {reason}", open_slot=None,
                planning=[FORGET],
            )  # fmt: skip
        case Wait(reason):
            return rest(Phase.ASSESS_BUDGET, f"Waiting: {reason}", planning=[FORGET])
        case Abort(reason):
            return await give_up(desk, reason)


def _conversation(state: AgentState) -> list[AnyMessage]:
    """The conversation so far; none when a crash left a tool call without its answer."""
    messages = state.get("planning") or []
    return [] if not messages or isinstance(messages[-1], AIMessage) else messages


async def _able(desk: Desk, slot: int | None) -> list[Vendor]:
    """The vendors that can run the job and do not hold an authorization for the slot already."""
    spec = spec_of(desk.run)
    able = [
        vendor
        for vendor in await desk.ledger.vendors.all()
        if vendor.can_run(spec.gpu_type) and vendor.vendor_id not in spec.excluded_vendors
    ]
    if slot is None:
        return able
    # A second vendor for a slot is paid with the same nonce, at an address of its own.
    holders = await desk.ledger.payments.of_slot(desk.run.id, slot)
    ids, addresses = {p.vendor_id for p in holders}, {p.pay_to.lower() for p in holders}
    return [v for v in able if v.vendor_id not in ids and (v.pay_to or "").lower() not in addresses
            and v.pay_to is not None]  # fmt: skip


async def _ask(desk: Desk, able: Sequence[Vendor]) -> list[RecordedOffer]:
    spec, slices = spec_of(desk.run), desk.deps.limits.slices
    wanted = {
        vendor: slices.minutes(spec.minutes, vendor.price_per_hour, earned=vendor.completed)
        for vendor in able
    }
    quotes, without = await ask_for_quotes(
        desk.deps.vendors,
        {vendor: minutes for vendor, minutes in wanted.items() if minutes},
        spec,
        desk.deps.limits.quote_deadline_s,
    )
    for quote in quotes:
        desk.note(
            "quote",
            f"{quote.vendor_id} offers {quote.minutes} minutes of {quote.gpu_type} "
            f"for {quote.price}",
            vendorId=quote.vendor_id,
            priceMicros=quote.price.micros,
        )
    for silence in without:
        desk.note("no_quote", f"{silence.vendor_id}: {silence.problem}", vendorId=silence.vendor_id)
    offers = [RecordedOffer(quote, "") for quote in quotes]
    await desk.ledger.runs.set_offers(desk.lease, offers)
    await desk.reread()
    return offers


async def _situation(
    desk: Desk, able: Sequence[Vendor], quoted: Sequence[RecordedOffer], slot: int | None
) -> Situation:
    now, vendors = desk.deps.now(), {vendor.vendor_id: vendor for vendor in able}
    failed = await failures(desk)
    return Situation(
        goal=desk.run.goal,
        offers=tuple(
            Offer(
                o.quote,
                vendors[o.quote.vendor_id],
                failed[o.quote.vendor_id],
                spec_of(desk.run).minutes,
            )
            for o in quoted
            if o.quote.vendor_id in vendors and not o.quote.expired(now)
        ),
        left=left_for(desk.run, slot),
        patience=True,
    )


async def _record(desk: Desk, situation: Situation, step: Decided) -> None:
    """The decision and its reason into the journal; beside each offer, why it was (not) taken."""
    reason = step.decision.reason
    match step.decision:
        case Rent(quote, _):
            text = (
                f"Budget remaining: {situation.left}\nQuote: {quote.price}\n"
                f"Proceeding with payment via x402 to vendor {quote.vendor_id}: {reason}"
            )
        case Wait(_):
            text = f"Renting nothing now: {reason}"
        case Abort(_):
            text = f"Giving up: {reason}"
    desk.note(
        "agent_reasoning",
        text,
        planner=step.planner,
        fallback=bool(step.fallback),
        fallbackReason=step.fallback,
        **(step.facts or {}),
    )
    await desk.ledger.runs.set_offers(
        desk.lease,
        [
            RecordedOffer(offer.quote, verdict(offer, step.decision, situation.left))
            for offer in situation.offers
        ],
    )
