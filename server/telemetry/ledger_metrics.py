"""The ledger's own metrics: the same from every process, for they are read from MongoDB.

Four aggregations a scrape, and none more often than every few seconds; no tick pays for them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from domain.errors import RenterError
from domain.jobs import RunStatus
from domain.money import MICROS_PER_DOLLAR, ZERO, Usd
from domain.payments import PaymentState
from ledger.ledger import Ledger
from ledger.totals import JobTotals, PaymentTotals, RunTotals, Totals
from server.telemetry.metrics import MOST_VENDORS, OTHER

LOG: Final = logging.getLogger(__name__)
FRESH_S: Final = 5.0
"""For how long one reading of the ledger serves every scrape."""
DEADLINE_S: Final = 5.0

_SPENT: Final = frozenset(state.value for state in PaymentState if state.paid)


@dataclass(slots=True, eq=False)
class LedgerMetrics(Collector):
    """The last reading of the ledger, as metrics. `read` before each scrape."""

    ledger: Ledger
    _runs: tuple[RunTotals, ...] = ()
    _purchases: tuple[RunTotals, ...] = ()
    _payments: tuple[PaymentTotals, ...] = ()
    _jobs: tuple[JobTotals, ...] = ()
    _up: bool = False
    _read_at: float | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self) -> None:
        """Read the ledger, unless that was done just now. Where it is away, the metrics say so."""
        async with self._reading:
            if self._read_at is not None and time.monotonic() - self._read_at < FRESH_S:
                return
            try:
                totals = Totals(self.ledger.store)
                async with asyncio.timeout(DEADLINE_S):
                    self._runs = tuple(await totals.runs())
                    self._purchases = tuple(await totals.purchases())
                    self._payments = tuple(await totals.payments())
                    self._jobs = tuple(await totals.jobs())
                self._up = True
            except (RenterError, TimeoutError) as error:
                LOG.warning("metrics: the ledger was not read: %s", error)
                self._up = False
            self._read_at = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """Nothing of a ledger that is away: a gap in a plot, not an old value or a zero."""
        yield GaugeMetricFamily(
            "gpu_renter_ledger_up", "Whether MongoDB answered this scrape.", value=float(self._up)
        )
        if self._up:
            yield from self._money()
            yield from self._counts()
            yield from self._model()

    def _money(self) -> Iterable[Metric]:
        settled = _sum(p.amount for p in self._payments if p.state in _SPENT)
        refunded = _sum(p.refunded for p in self._payments if p.state in _SPENT)
        money = GaugeMetricFamily(
            "gpu_renter_money_dollars",
            "Dollars in the ledger: reserved (may still settle), settled, refunded.",
            labels=["kind"],
        )
        reserved = _sum(r.reserved for r in (*self._runs, *self._purchases))
        for kind, amount in (("reserved", reserved), ("settled", settled), ("refunded", refunded)):
            money.add_metric([kind], amount.micros / MICROS_PER_DOLLAR)
        yield money

    def _counts(self) -> Iterable[Metric]:
        payments = GaugeMetricFamily(
            "gpu_renter_payments", "Payments in the ledger by state.", labels=["state"]
        )
        stored = {p.state: p.count for p in self._payments}
        for state in PaymentState:
            payments.add_metric([state.value], stored.get(state.value, 0))
        yield payments
        runs = GaugeMetricFamily(
            "gpu_renter_runs", "Runs in the ledger by status.", labels=["status"]
        )
        counted = {run.status: run.count for run in self._runs}
        for status in RunStatus:
            runs.add_metric([status.value], counted.get(status.value, 0))
        yield runs
        yield self._job_counts()

    def _job_counts(self) -> Metric:
        jobs = GaugeMetricFamily(
            "gpu_renter_jobs",
            "Jobs in the ledger by vendor and status; failed ones are the vendor's failures.",
            labels=["vendor", "status"],
        )
        known = set(sorted({job.vendor_id for job in self._jobs})[:MOST_VENDORS])
        counted: dict[tuple[str, str], int] = {}
        for job in self._jobs:
            key = (job.vendor_id if job.vendor_id in known else OTHER, job.status)
            counted[key] = counted.get(key, 0) + job.count
        for labels, count in sorted(counted.items()):
            jobs.add_metric(list(labels), count)
        return jobs

    def _model(self) -> Iterable[Metric]:
        def total(name: str, help_: str, value: float) -> Metric:
            return GaugeMetricFamily(f"gpu_renter_model_{name}", help_, value=value)

        yield total("calls", "Model calls of all runs.", sum(r.model_calls for r in self._runs))
        tokens = GaugeMetricFamily(
            "gpu_renter_model_tokens", "Tokens of all runs' model calls.", labels=["direction"]
        )
        tokens.add_metric(["in"], sum(r.tokens_in for r in self._runs))
        tokens.add_metric(["out"], sum(r.tokens_out for r in self._runs))
        yield tokens
        cost = _sum(r.model_cost for r in self._runs)
        yield total(
            "cost_dollars",
            "What those calls cost, by the configured prices.",
            cost.micros / MICROS_PER_DOLLAR,
        )


def _sum(amounts: Iterable[Usd]) -> Usd:
    return sum(amounts, start=ZERO)
