"""Prometheus metrics of one process: its steps, as they end. The ledger's are in ledger_metrics.py.

No label is unbounded: outcomes and calls are of our code, vendors of the registry, and runs and
payments are in logs and traces only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from langgraph.errors import GraphBubbleUp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from domain.errors import RenterError
from tools.wire.observer import Step

MOST_VENDORS: Final = 200
"""Vendors with a label of their own; whoever comes later is called OTHER."""
OTHER: Final = "other"
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def outcome_of(step: Step) -> str:
    """How a step ended, in one of a few words; `ok` where it knows no better."""
    match step.error:
        case None:
            return str(step.facts.get("outcome", "ok"))
        case RenterError() as error:
            return error.outcome
        case asyncio.CancelledError():
            return "cut_off"
        case GraphBubbleUp():
            return "waiting"
        case _:
            return "failed"


class Metrics:
    """The metrics of one server or worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._vendors: set[str] = set()
        self._ticks = Counter(
            "gpu_renter_ticks", "Ticks by how they ended.", ["outcome"], registry=self.registry
        )
        self._tick_seconds = self._histogram("tick", "Of one tick.")
        self._node_seconds = self._histogram("node", "Of one node of the graph.", "node")
        self._vendor_calls = Counter(
            "gpu_renter_vendor_calls",
            "Calls to vendors by how they ended; all but `ok` are failures.",
            ["vendor", "call", "outcome"],
            registry=self.registry,
        )
        self._vendor_seconds = self._histogram("vendor_call", "Of one call.", "vendor", "call")
        self._chain_reads = Counter(
            "gpu_renter_chain_reads",
            "Reads of the chain by how they ended.",
            ["read", "outcome"],
            registry=self.registry,
        )
        self._chain_seconds = self._histogram("chain_read", "Of one read.", "read")
        self._mismatches = Gauge(
            "gpu_renter_reconcile_mismatches",
            "What the last comparison of the ledger with the chain found wrong; 0 is good.",
            registry=self.registry,
        )
        self._compared_at = Gauge(
            "gpu_renter_reconcile_timestamp_seconds",
            "When that was; 0: not since this process started.",
            registry=self.registry,
        )

    @contextmanager
    def __call__(self, step: Step) -> Iterator[None]:
        """Listen to one step."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._count(step, time.perf_counter() - begun)

    def _count(self, step: Step, seconds: float) -> None:
        outcome = outcome_of(step)
        match step.kind:
            case "tick":
                self._ticks.labels(outcome).inc()
                self._tick_seconds.observe(seconds)
            case "node":
                self._node_seconds.labels(step.name).observe(seconds)
            case "vendor":
                vendor = self._vendor(str(step.facts.get("vendor", OTHER)))
                self._vendor_calls.labels(vendor, step.name, outcome).inc()
                self._vendor_seconds.labels(vendor, step.name).observe(seconds)
            case "chain":
                self._chain_reads.labels(step.name, outcome).inc()
                self._chain_seconds.labels(step.name).observe(seconds)
            case "reconcile" if step.error is None:
                self._mismatches.set(int(step.facts["mismatches"]))
                self._compared_at.set_to_current_time()

    def _vendor(self, vendor_id: str) -> str:
        if vendor_id not in self._vendors and len(self._vendors) >= MOST_VENDORS:
            return OTHER
        self._vendors.add(vendor_id)
        return vendor_id

    def _histogram(self, what: str, help_: str, *labels: str) -> Histogram:
        return Histogram(
            f"gpu_renter_{what}_duration_seconds",
            help_,
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )
