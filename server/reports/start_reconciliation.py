"""The books at start: what a crash left open is closed, then ledger and chain are compared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from domain.errors import RenterError
from server.wiring import Services
from tools.payments.reconcile import Closed

LOG: Final = logging.getLogger(__name__)
CLOSING_DEADLINE_S: Final = 10.0
"""How long the start waits for the closing; ticks close what is left."""


@asynccontextmanager
async def reconciled(services: Services) -> AsyncIterator[None]:
    """Close what is open before the block begins, and compare beside it.

    A chain or store that is away stops nobody: it is logged, and ticks close what they meet.
    """
    closed = Closed(0, (), ())
    try:
        async with asyncio.timeout(CLOSING_DEADLINE_S):
            closed = await services.deps.reconciler.close_open()
    except (RenterError, TimeoutError) as error:
        LOG.warning("reconcile: what is open was not closed at start: %s", error)
    comparing = asyncio.create_task(_compare(services, closed))
    try:
        yield
    finally:
        comparing.cancel()
        await asyncio.gather(comparing, return_exceptions=True)


async def _compare(services: Services, closed: Closed) -> None:
    try:
        with services.deps.observer.step("reconcile", "compare") as step:
            report = await services.deps.reconciler.compare(closed)
            step.note(mismatches=report.mismatches)
    except RenterError as error:
        LOG.warning("reconcile: the ledger was not compared with the chain: %s", error)
        return
    except Exception:  # an outermost edge: nobody waits for what it finds
        LOG.exception("reconcile: the ledger was not compared with the chain")
        return
    totals = f"ledger {report.ledger_total.exact()}, chain {report.chain_total.exact()}"
    if report.ok:
        LOG.info("reconcile: %s, %d runs hold open money", totals, len(report.still_open))
    else:
        LOG.error("reconcile: MISMATCH: %s. See: gpu-renter reconcile", totals)
