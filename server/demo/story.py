"""The demo: a whole run on this machine, with a vendor that fails part-way.

Everything is real except the money: an embedded MongoDB, an EVM chain with a USDC contract, two
vendors behind x402, and the agent itself. It always runs on its own local services with its own
settings, whatever the environment says, so it can never spend anything of value.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from domain.errors import RenterError
from domain.journal import first_broken
from domain.money import Usd
from domain.names import names_of
from server.config.settings import Settings
from server.local.stack import LocalStack

if TYPE_CHECKING:
    from ledger.jobs import Job
    from ledger.payments import Payment
    from ledger.run import Run
    from server.demo.view import DemoView
    from server.wiring import Services
    from tools.payments.chain import Transfer

GOAL: Final = "Fine-tune a 7B model on an A100, under $5"
BUDGET: Final = Usd.parse(5)
FAILING: Final = "gpu_vendor_1"
USER: Final = "demo"
MOST_TICKS: Final = 40
KEPT: Final = Path(".gpu-renter") / "demo"
"""Where the artifact is left when the demo is over."""


@dataclass(frozen=True, slots=True)
class StoryOutcome:
    """What the ledger, the chain and the disk say after the run, each read from itself."""

    run: Run
    jobs: list[Job]
    payments: list[Payment]
    broken_entry: int | None
    """The first entry of the journal that does not follow from those before it."""
    balance_before: Usd
    balance_after: Usd
    transfers: list[Transfer]
    """Every transfer out of the wallet since the run began, from the chain's own logs."""
    known: dict[str, Transfer | None]
    """What the chain knows of each transaction that a payment names."""
    artifact: Path | None
    artifact_sha256: str | None
    """The hash of the bytes on disk."""
    seconds: float
    """Seconds from the first tick to the last."""
    status: dict[str, Any]
    """What GET /api/agent-status answers."""


async def perform(audience: DemoView, model: Settings | None = None) -> StoryOutcome:
    """Run the demo from nothing to nothing. Raises what the services' start raises.

    model: settings whose model is to plan; nothing else of them counts.
    """
    with tempfile.TemporaryDirectory(prefix="gpu-renter-demo-") as folder:
        settings = Settings(
            data_dir=Path(folder),
            fail_vendor_id=FAILING,
            fail_rate=0.0,
            **(_planner(model) if model else {"planner_mode": "stub"}),
        )
        stack = LocalStack(settings, ephemeral=True, quick_stop=True)
        audience.starting(stack)
        async with _services(stack) as services:
            return await _rent(services, stack, audience)


def _planner(settings: Settings) -> dict[str, Any]:
    names = [n for n in Settings.model_fields if n.startswith("fireworks_")]
    return {"planner_mode": "llm", **{name: getattr(settings, name) for name in names}}


@asynccontextmanager
async def _services(stack: LocalStack) -> AsyncIterator[Services]:
    """The agent's services over the stack; its modules load while the stack starts."""
    loading = asyncio.create_task(asyncio.to_thread(import_module, "server.runner.tick"))
    try:
        async with stack:
            await loading
            from server.wiring import open_services

            async with open_services(stack.settings) as services:
                yield services
    finally:
        loading.cancel()


async def _rent(services: Services, stack: LocalStack, audience: DemoView) -> StoryOutcome:
    from domain.ids import new_run_id
    from server.local.seed import seed
    from server.runner.tick import Ticker
    from server.wiring import now

    deps = services.deps
    ledger, chain, payer = deps.ledger, deps.chain, deps.wallet.address
    vendors = await seed(ledger.vendors, stack.settings, now())
    before, first_block = await chain.balance(payer), (await chain.head()).number + 1
    audience.started(stack, payer, before, vendors)

    run = await ledger.runs.create(new_run_id(), USER, GOAL, BUDGET, now())
    ticker, told, begun = Ticker(services), 0, time.monotonic()
    audience.working(run, None)
    for _ in range(MOST_TICKS):
        await ticker.tick(run.id)
        run = await ledger.runs.get(run.id)
        job = await ledger.jobs.current(run)
        for entry in await ledger.observations.of_run(run.id, after=told):
            await audience.reads(entry)
            told = entry.seq
        audience.working(run, job)
        if run.status.ended:
            break
    return await _look(services, run, before, first_block, time.monotonic() - begun)


async def _look(
    services: Services, run: Run, before: Usd, first_block: int, seconds: float
) -> StoryOutcome:
    from server.api.views import status_answer

    deps = services.deps
    chain, payer, ledger = deps.chain, deps.wallet.address, deps.ledger
    payments = await ledger.payments.of_run(run.id)
    jobs = await ledger.jobs.of_run(run)
    entries = await ledger.observations.of_run(run.id)
    path = Path(jobs[-1].artifact_path) if jobs and jobs[-1].artifact_path else None
    kept = await asyncio.to_thread(_keep, path) if path else None
    return StoryOutcome(
        run=run,
        jobs=jobs,
        payments=payments,
        broken_entry=first_broken(entries),
        balance_before=before,
        balance_after=await chain.balance(payer),
        transfers=await chain.transfers(sender=payer, recipient=None, from_block=first_block),
        known={
            p.tx_id: next(
                iter(await chain.transfers_in(p.tx_id, sender=payer, recipient=p.pay_to)), None
            )
            for p in payments
            if p.tx_id
        },
        artifact=kept,
        artifact_sha256=await asyncio.to_thread(_sha256, kept) if kept else None,
        seconds=seconds,
        status=status_answer(
            run, jobs, payments, entries, names=names_of(await ledger.vendors.all())
        ).model_dump(mode="json", by_alias=True),
    )


def _keep(artifact: Path) -> Path:
    """Copy the artifact out of the folder that is about to go."""
    kept = KEPT / artifact.name
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact, kept)
    except OSError as error:
        raise RenterError(
            f"Keeping the artifact as {kept}: {error.strerror}", "Run the demo in a folder of yours"
        ) from error
    return kept


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
