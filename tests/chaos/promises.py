"""P1 to P5, checked against the chain's own transfers and the vendor's own records.

`check_now` holds at every moment; `check_end` once nothing that was signed can settle any more
and reconcile has run. Both give the broken promises as sentences; none means that all hold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from domain.ids import slot_nonce
from domain.journal import first_broken
from domain.money import ZERO, Usd
from domain.networks import LOCAL
from domain.payments import PaymentState
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Run
from mock_vendor.vendor.quoting import extension_price
from mock_vendor.vendor.service import VendorService
from mock_vendor.vendor.settings import VendorProfile
from tests.chaos.record import Record
from tests.support.memory_chain import Transfer

VENDOR_HOSTS = {"vendor.test"}
PAID = (PaymentState.SETTLED, PaymentState.REFUNDED)
NEVER_PAID = (PaymentState.REFUSED, PaymentState.EXPIRED)


class ChainOfRecord(Protocol):
    """The chain, looked at directly and not through the agent's reader."""

    @property
    def transfers(self) -> Sequence[Transfer]: ...

    def now(self) -> int: ...

    def is_closed(self, payer: str, nonce: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class VendorBooks:
    """What the vendors themselves have on record."""

    profiles: Mapping[str, VendorProfile]
    rows: Callable[[str], list[dict[str, Any]]]
    """All rows of `quotes`, `payments`, `jobs` or `refunds`."""

    @classmethod
    def of(cls, vendor: VendorService) -> VendorBooks:
        def rows(table: str) -> list[dict[str, Any]]:
            return vendor._store._all(f"select * from {table}")

        return cls(vendor._vendors, rows)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the promises are checked on."""

    ledger: Ledger
    chain: ChainOfRecord
    vendor: VendorBooks
    record: Record
    agent: str
    """The paying account."""
    asks_above: Usd | None = None
    """The approval threshold: what is paid to whom no person has said yes to never exceeds it."""

    def out(self) -> list[Transfer]:
        return [t for t in self.chain.transfers if t.sender == self.agent]

    def back(self) -> list[Transfer]:
        payees = {profile.pay_to for profile in self.vendor.profiles.values()}
        return [t for t in self.chain.transfers if t.recipient == self.agent and t.sender in payees]


async def check_now(evidence: Evidence) -> list[str]:
    """What must hold at any moment, also in the middle of a crashed tick."""
    broken: list[str] = []
    runs = await evidence.ledger.runs.recent(limit=0)
    payments = [p for run in runs for p in await evidence.ledger.payments.of_run(run.id)]
    for run in runs:
        broken += _sound(run)
    broken += _at_most_once(evidence, runs)
    broken += _within_budget(evidence, runs)
    broken += _policy(evidence, runs, payments)
    broken += _approved(evidence)
    broken += _no_guesses(evidence, payments)
    return broken


async def check_end(evidence: Evidence) -> list[str]:
    """What must hold when everything is decided. Includes `check_now`."""
    broken = await check_now(evidence)
    runs = await evidence.ledger.runs.recent(limit=0)
    for run in runs:
        payments = await evidence.ledger.payments.of_run(run.id)
        broken += _closed(run, payments)
        journal = await evidence.ledger.observations.of_run(run.id)
        if (seq := first_broken(journal)) is not None:
            broken.append(f"the journal of {run.id} is broken at entry {seq}")
    payments = [p for run in runs for p in await evidence.ledger.payments.of_run(run.id)]
    broken += _ledger_is_chain(evidence, payments)
    broken += _one_job_a_payment(evidence)
    return broken


def _sound(run: Run) -> Iterable[str]:
    held = sum((r.amount for r in run.reservations), ZERO)
    if run.budget_remaining + run.spent + held != run.budget_total:
        yield (
            f"P3: {run.id}: {run.budget_total} is not {run.budget_remaining} left + {run.spent} "
            f"spent + {held} held"
        )
    if min(run.budget_remaining, run.spent) < ZERO:
        yield f"P2: {run.id} is overdrawn: {run.budget_remaining} left, {run.spent} spent"


def _at_most_once(evidence: Evidence, runs: Sequence[Run]) -> Iterable[str]:
    slots = {slot_nonce(r.id, n): (r.id, n) for r in runs for n in range(r.next_slot + 1)}
    for nonce, times in Counter(t.nonce for t in evidence.out()).items():
        if nonce not in slots:
            yield f"P1: a transfer by nonce {nonce}, which is no slot's"
        elif times > 1:
            yield f"P1: slot {slots[nonce]} was paid {times} times"


def _within_budget(evidence: Evidence, runs: Sequence[Run]) -> Iterable[str]:
    spent = sum(t.value for t in evidence.out()) - sum(t.value for t in evidence.back())
    may_settle: dict[str, int] = {}
    for sent in evidence.record.payments.values():
        open_ = not evidence.chain.is_closed(evidence.agent, sent.nonce)
        if open_ and evidence.chain.now() < sent.valid_before_s:
            may_settle[sent.nonce] = max(sent.micros, may_settle.get(sent.nonce, 0))
    total = sum(run.budget_total.micros for run in runs)
    if spent + sum(may_settle.values()) > total:
        yield f"P2: {spent} is paid, {sum(may_settle.values())} may still be, of {total} micros"
    held = {slot_nonce(run.id, r.slot): r.amount.micros for run in runs for r in run.reservations}
    for nonce, micros in may_settle.items():
        if held.get(nonce, 0) < micros:
            yield f"P2: {micros} may still settle by {nonce}, and {held.get(nonce, 0)} are held"


def _policy(evidence: Evidence, runs: Sequence[Run], payments: Sequence[Payment]) -> Iterable[str]:
    slots = {slot_nonce(r.id, n) for r in runs for n in range(r.next_slot + 1)}
    payees = {
        profile.pay_to: profile
        for profile in evidence.vendor.profiles.values()
        if profile.rail == "x402"
    }
    quoted: dict[str, list[int]] = {vendor: [] for vendor in evidence.vendor.profiles}
    for quote in evidence.vendor.rows("quotes"):
        quoted[quote["vendor_id"]].append(quote["amount"])
    for payment in payments:
        if minutes := payment.order.get("minutes"):
            rates = (
                job["price_per_hour"]
                for job in evidence.vendor.rows("jobs")
                if job["vendor_id"] == payment.vendor_id
            )
            quoted[payment.vendor_id].append(extension_price(max(rates), minutes))
    for signed in evidence.record.signatures:
        what = f"a signature of {signed.value} to {signed.pay_to}"
        payee = payees.get(signed.pay_to)
        if payee is None:
            yield f"P4: {what}, which no registered vendor has"
        elif signed.value > max(quoted[payee.vendor_id], default=0):
            yield f"P4: {what}, more than any quote of {payee.vendor_id}"
        if (signed.chain_id, signed.verifying_contract) != (LOCAL.chain_id, LOCAL.usdc):
            yield f"P4: {what} on another network or token"
        if signed.nonce not in slots:
            yield f"P4: {what} with nonce {signed.nonce}, which is no slot's"
        if signed.valid_after_s != 0 or signed.value <= 0:
            yield f"P4: {what} of an odd shape"
    if astray := evidence.record.hosts - VENDOR_HOSTS:
        yield f"P4: a signed payment went to {astray}, which is no registered vendor"
    stored = {p.header for p in payments if p.header} | {p.header_sha256 for p in payments}
    for sent in evidence.record.payments.values():
        if stored.isdisjoint({sent.header, sha256(sent.header.encode()).hexdigest()}):
            yield f"P3: {sent.micros} to {sent.pay_to} was sent and is not in the ledger"
    of_pair: dict[tuple[str, str], set[str]] = {}
    for sent in evidence.record.payments.values():
        of_pair.setdefault((sent.nonce, sent.pay_to), set()).add(sent.header)
    for (nonce, payee_), headers in of_pair.items():
        if len(headers) > 1:
            yield f"P1: slot nonce {nonce} was sent to {payee_} as {len(headers)} authorizations"


def _approved(evidence: Evidence) -> Iterable[str]:
    """P4: what may move to a payee, a nonce once, is within what a person has said yes to."""
    if evidence.asks_above is None:
        return
    most: dict[str, dict[str, int]] = {}
    for sent in evidence.record.payments.values():
        of_payee = most.setdefault(sent.pay_to, {})
        of_payee[sent.nonce] = max(sent.micros, of_payee.get(sent.nonce, 0))
    for pay_to, by_nonce in most.items():
        yeses = [a.amount.micros for a in evidence.record.yeses if a.pay_to == pay_to]
        allowed = max(sum(yeses), evidence.asks_above.micros)
        if (sent_ := sum(by_nonce.values())) > allowed:
            yield f"P4: {sent_} went out to {pay_to}, and a person allowed {allowed}"


def _no_guesses(evidence: Evidence, payments: Sequence[Payment]) -> Iterable[str]:
    """P5: a closed payment is one that the chain has closed."""
    out = {(t.tx_hash, t.recipient, t.value) for t in evidence.out()}
    moved = {(t.nonce, t.recipient) for t in evidence.out()}
    arrived = {t.tx_hash: t for t in evidence.back()}
    for p in payments:
        if not p.on_chain:
            continue
        if p.state in PAID and (p.tx_id, p.pay_to, p.amount.micros) not in out:
            yield f"P5: {p.id} is called {p.state} and the chain does not show it"
        if p.state in NEVER_PAID:
            if (p.nonce, p.pay_to) in moved:
                yield f"P5: {p.id} is called {p.state} and the chain shows it paid"
            elif evidence.chain.now() < p.valid_before_s and not evidence.chain.is_closed(
                evidence.agent, p.nonce
            ):
                yield f"P5: {p.id} is called {p.state} while it may still settle"
        if p.state is PaymentState.RELEASED and (p.header or p.header_sha256):
            yield f"P5: {p.id} was signed and is called released"
        if p.refunded > ZERO:
            refund = arrived.get(p.refund_tx or "")
            if refund is None or refund.sender != p.pay_to or refund.value < p.refunded.micros:
                yield f"P5: {p.id} counts {p.refunded} as refunded, which never came"


def _closed(run: Run, payments: Sequence[Payment]) -> Iterable[str]:
    if run.reservations:
        yield f"P3: {run.id} still holds {run.reservations}"
    for p in payments:
        if p.state.open:
            yield f"P3: {p.id} is still {p.state}"
    booked = sum((p.amount - p.refunded for p in payments if p.state in PAID), ZERO)
    if run.spent != booked:
        yield f"P3: {run.id} has spent {run.spent}, its payments say {booked}"


def _ledger_is_chain(evidence: Evidence, payments: Sequence[Payment]) -> Iterable[str]:
    """P3: each unit that moved is in the ledger, both ways."""
    booked = Counter(
        (p.tx_id, p.pay_to, p.amount.micros) for p in payments if p.state in PAID and p.on_chain
    )
    for transfer in evidence.out():
        key = (transfer.tx_hash, transfer.recipient, transfer.value)
        if booked[key] != 1:
            yield f"P3: {key} left the wallet, and {booked[key]} payments in the ledger say so"
    refunds = Counter({p.refund_tx: p.refunded.micros for p in payments if p.refunded > ZERO})
    for transfer in evidence.back():
        if refunds[transfer.tx_hash] != transfer.value:
            yield (
                f"P3: {transfer.value} came back in {transfer.tx_hash}, and "
                f"{refunds[transfer.tx_hash]} of it is in the ledger"
            )
    ledger = sum((p.amount - p.refunded for p in payments if p.state in PAID and p.on_chain), ZERO)
    chain = sum(t.value for t in evidence.out()) - sum(t.value for t in evidence.back())
    if ledger != Usd(chain):
        yield f"P3: the ledger's total is {ledger}, the chain's {Usd(chain)}"


def _one_job_a_payment(evidence: Evidence) -> Iterable[str]:
    """The vendor's own books: each paid job was paid once, and each payment gave one job."""
    done = [p for p in evidence.vendor.rows("payments") if p["state"] == "done"]
    launched = Counter(p["subject"] for p in done if p["kind"] == "job")
    jobs = [j for j in evidence.vendor.rows("jobs") if j["payer"]]
    for job in jobs:
        if launched[job["quote_id"]] != 1:
            yield f"P1: job {job['job_id']} was paid {launched[job['quote_id']]} times"
    if len(jobs) != sum(launched.values()):
        yield f"P1: {sum(launched.values())} launches were paid and {len(jobs)} jobs made"
    for tx, times in Counter(p["tx_hash"] for p in done).items():
        if times > 1:
            yield f"P1: the vendor gave {times} things for {tx}"
    for job in jobs:
        paid = sum(p["amount"] for p in done if _job_paid(p, job))
        if paid != job["paid_amount"]:
            yield f"P1: job {job['job_id']} counts {job['paid_amount']} as paid, not {paid}"


def nothing_runs_on(evidence: Evidence) -> list[str]:
    """Once the books of all runs are closed: no vendor has a job that still runs for them."""
    return [
        f"job {job['job_id']} still runs at {job['vendor_id']}, for nobody"
        for job in evidence.vendor.rows("jobs")
        if job["status"] == "running"
    ]


def _job_paid(payment: dict[str, Any], job: dict[str, Any]) -> bool:
    if payment["kind"] == "extend":
        return bool(json.loads(payment["body"]).get("vendorJobId") == job["job_id"])
    return bool(payment["subject"] == job["quote_id"])
