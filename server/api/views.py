"""From the ledger's values to the API's JSON. A payment's signed header never goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from domain import networks
from domain.approvals import Approval, ApprovalState
from domain.journal import Entry
from domain.money import ZERO, Usd
from domain.names import Names
from ledger.jobs import Job
from ledger.payments import Payment
from ledger.run import RecordedOffer, Run
from server.api.schemas import (
    ApprovalView,
    JobSpecView,
    JobView,
    ModelView,
    NoQuoteView,
    ObservationView,
    OfferView,
    PaymentView,
    RunView,
    StartedRun,
    StatusAnswer,
)


def started_view(run: Run) -> StartedRun:
    return StartedRun(
        id=run.id,
        user_id=run.user_id,
        goal=run.goal,
        status=run.status.value,
        budget_total=run.budget_total.dollars(),
        budget_remaining=run.budget_remaining.dollars(),
        created_at=run.created_at,
        not_used=list(run.not_used),
    )


def run_view(run: Run, waiting: Iterable[Approval] = (), names: Names | None = None) -> RunView:
    """waiting: its questions that wait for an answer."""
    return RunView(
        **dict(started_view(run)),
        spent=run.spent.dollars(),
        reserved=_sum(held.amount for held in run.reservations).dollars(),
        phase=run.phase,
        job_spec=_spec_view(run),
        current_job_id=run.job_id,
        reason=run.reason,
        model=_model_view(run),
        updated_at=run.updated_at,
        waiting_for=asked_for(waiting, names or Names()),
    )


def status_view(
    run: Run,
    jobs: Iterable[Job],
    payments: Iterable[Payment],
    entries: Iterable[Entry],
    approvals: Iterable[Approval] = (),
    names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What agent-status answers, as JSON values."""
    return status_answer(run, jobs, payments, entries, approvals, names).model_dump(
        mode="json", by_alias=True
    )


def status_answer(
    run: Run,
    jobs: Iterable[Job],
    payments: Iterable[Payment],
    entries: Iterable[Entry],
    approvals: Iterable[Approval] = (),
    names: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> StatusAnswer:
    """names: of the vendors, by their ids. now: what waits longer than it may waits no more."""
    approvals, called = list(approvals), Names(names or {})
    waiting = waiting_of(run, approvals, now)
    payments = list(payments)
    paid_in = {payment.id: payment.slot for payment in payments}
    return StatusAnswer(
        run=run_view(run, waiting, called),
        jobs=[
            job_view(job, [a for a in waiting if extends(a, job, paid_in)], called) for job in jobs
        ],
        payments=[payment_view(payment) for payment in payments],
        observations=[observation_view(entry) for entry in entries],
        offers=[offer_view(offer, run) for offer in run.offers],
        no_quotes=[NoQuoteView(vendor_id=s.vendor_id, why=s.why) for s in run.no_quotes],
        approvals=[approval_view(approval, run, called) for approval in approvals],
        vendor_names=dict(names or {}),
    )


def waiting_of(
    run: Run, approvals: Iterable[Approval], now: datetime | None = None
) -> list[Approval]:
    """The run's questions that wait for a person; at `now`, where it is given."""
    pending = (a for a in approvals if a.state is ApprovalState.PENDING)
    return [a for a in pending if not (run.status.ended or (now and now >= a.expires_at))]


def asked_for(waiting: Iterable[Approval], names: Names) -> str | None:
    """What is to be approved, in words; None where nothing is."""
    return " and ".join(a.asks_for(names[a.vendor_id]) for a in waiting) or None


def extends(approval: Approval, job: Job, paid_in: Mapping[str, int]) -> bool:
    """Whether it asks for more of the job's time. paid_in: payment's id → its slot."""
    slot = paid_in.get(job.payment_id)
    return (approval.slot, approval.vendor_id) == (slot, job.vendor_id) and not job.status.ended


def job_view(job: Job, waiting: Iterable[Approval] = (), names: Names | None = None) -> JobView:
    return JobView(
        id=job.id,
        run_id=job.run_id,
        vendor_id=job.vendor_id,
        vendor_job_id=job.vendor_job_id,
        payment_id=job.payment_id,
        status=job.status.value,
        progress=job.progress,
        gpu_type=job.gpu_type,
        minutes=job.minutes,
        artifact_url=job.artifact_url,
        artifact_path=job.artifact_path,
        artifact_sha256=job.artifact_sha256,
        error_message=job.error_message,
        final_metrics=dict(job.metrics),
        waiting_for=asked_for(waiting, names or Names()),
        created_at=job.created_at,
        updated_at=job.updated_at,
    )


def payment_view(payment: Payment) -> PaymentView:
    return PaymentView(
        id=payment.id,
        run_id=payment.run_id,
        slot=payment.slot,
        kind=payment.kind.value,
        vendor_id=payment.vendor_id,
        amount=payment.amount.dollars(),
        currency="USD",
        status=payment.state.status,
        state=payment.state.value,
        rail=payment.rail.value,
        x402_tx_id=payment.tx_id,
        network=payment.network,
        explorer_url=_explorer_url(payment),
        pay_to=payment.pay_to,
        payer=payment.payer,
        nonce=payment.nonce,
        refunded=payment.refunded.dollars(),
        reason=payment.reason,
        created_at=payment.created_at,
    )


def observation_view(entry: Entry) -> ObservationView:
    return ObservationView(
        seq=entry.seq,
        type=entry.note.type,
        content=entry.note.content,
        data=dict(entry.note.data),
        created_at=entry.created_at,
    )


def approval_view(approval: Approval, run: Run, names: Names) -> ApprovalView:
    """A question that nobody answered before its run ended does not wait any more."""
    moot = run.status.ended and approval.state is ApprovalState.PENDING
    return ApprovalView(
        id=approval.id,
        vendor_id=approval.vendor_id,
        pay_to=approval.pay_to,
        amount=approval.amount.dollars(),
        state=(ApprovalState.EXPIRED if moot else approval.state).value,
        created_at=approval.created_at,
        expires_at=approval.expires_at,
        price=approval.price.dollars(),
        minutes=approval.minutes,
        gpu_type=approval.gpu_type,
        paid=approval.paid.dollars(),
        covered=_sum(approval.covered.values()).dollars(),
        what=approval.asks_for(names[approval.vendor_id]),
    )


def offer_view(offer: RecordedOffer, run: Run) -> OfferView:
    quote = offer.quote
    whole = quote.whole(run.spec.minutes).dollars() if run.spec else None
    return OfferView(
        vendor_id=quote.vendor_id,
        vendor_job_template_id=quote.template_id,
        gpu_type=quote.gpu_type,
        minutes=quote.minutes,
        price=quote.price.dollars(),
        whole_job=whole,
        eta_minutes=quote.eta_minutes,
        expires_at=quote.expires_at,
        verdict=offer.verdict,
    )


def _spec_view(run: Run) -> JobSpecView | None:
    if run.spec is None:
        return None
    return JobSpecView(
        job_type=run.spec.job_type,
        gpu_type=run.spec.gpu_type,
        gpu_count=run.spec.gpu_count,
        hours=run.spec.hours,
        preference=run.spec.preference.value if run.spec.preference else None,
        excluded_vendors=list(run.spec.excluded_vendors),
        only_vendors=list(run.spec.only_vendors),
        gpu_types=list(run.spec.gpu_types),
        max_hourly=run.spec.max_hourly.dollars() if run.spec.max_hourly else None,
        deadline=run.spec.deadline,
        guessed=list(run.spec.guessed),
    )


def _model_view(run: Run) -> ModelView:
    cost = run.model.cost
    return ModelView(
        calls=run.model.calls,
        tokens_in=run.model.tokens_in,
        tokens_out=run.model.tokens_out,
        cost=None if cost is None else cost.dollars(),
    )


def _explorer_url(payment: Payment) -> str | None:
    if not (payment.on_chain and payment.tx_id and payment.network):
        return None
    return networks.network(payment.network).explorer_link(payment.tx_id)


def _sum(amounts: Iterable[Usd]) -> Usd:
    return sum(amounts, start=ZERO)
