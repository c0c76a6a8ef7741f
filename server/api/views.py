"""From the ledger's values to the API's JSON. A payment's signed header never goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from domain import networks
from domain.approvals import Approval, ApprovalState, asked_for
from domain.journal import Entry
from domain.money import ZERO
from domain.names import Names
from ledger.jobs import Job
from ledger.payments import Payment
from ledger.run import RecordedOffer, Run
from server.api.schemas import (
    ApprovalView,
    JobView,
    NoQuoteView,
    ObservationView,
    OfferView,
    PaymentView,
    RunView,
    StatusAnswer,
)


def run_view(run: Run, waiting: Iterable[Approval] = (), names: Names | None = None) -> RunView:
    """A run as the API shows it. waiting: its questions to a person that are still open."""
    return RunView.of(
        run,
        job_spec=run.spec,
        current_job_id=run.job_id,
        waiting_for=asked_for(waiting, names or Names()) or None,
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
    """agent-status's answer. names: vendors' names by id. now: closes expired questions."""
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
        no_quotes=[NoQuoteView.of(silence) for silence in run.no_quotes],
        approvals=[approval_view(approval, run, called) for approval in approvals],
        vendor_names=dict(names or {}),
    )


def waiting_of(
    run: Run, approvals: Iterable[Approval], now: datetime | None = None
) -> list[Approval]:
    """The run's questions that wait for a person; at `now`, where it is given."""
    pending = (a for a in approvals if a.state is ApprovalState.PENDING)
    return [a for a in pending if not (run.status.ended or (now and now >= a.expires_at))]


def extends(approval: Approval, job: Job, paid_in: Mapping[str, int]) -> bool:
    """Whether it asks for more time for the job. paid_in: payment's id → its slot."""
    slot = paid_in.get(job.payment_id)
    return (approval.slot, approval.vendor_id) == (slot, job.vendor_id) and not job.status.ended


def job_view(job: Job, waiting: Iterable[Approval] = (), names: Names | None = None) -> JobView:
    asked = asked_for(waiting, names or Names()) or None
    return JobView.of(job, final_metrics=job.metrics, waiting_for=asked)


def payment_view(payment: Payment) -> PaymentView:
    return PaymentView.of(
        payment,
        currency="USD",
        status=payment.state.status,
        x402_tx_id=payment.tx_id,
        explorer_url=_explorer_url(payment),
    )


def observation_view(entry: Entry) -> ObservationView:
    return ObservationView.of(entry.note, seq=entry.seq, created_at=entry.created_at)


def approval_view(approval: Approval, run: Run, names: Names) -> ApprovalView:
    """A question that nobody answered before its run ended does not wait any more."""
    moot = run.status.ended and approval.state is ApprovalState.PENDING
    return ApprovalView.of(
        approval,
        state=ApprovalState.EXPIRED if moot else approval.state,
        covered=sum(approval.covered.values(), start=ZERO),
        what=approval.asks_for(names[approval.vendor_id]),
    )


def offer_view(offer: RecordedOffer, run: Run) -> OfferView:
    quote = offer.quote
    return OfferView.of(
        quote,
        vendor_job_template_id=quote.template_id,
        whole_job=quote.whole(run.spec.minutes) if run.spec else None,
        verdict=offer.verdict,
    )


def _explorer_url(payment: Payment) -> str | None:
    if not (payment.on_chain and payment.tx_id and payment.network):
        return None
    return networks.network(payment.network).explorer_link(payment.tx_id)
