"""The fleet under fire: workers on a real Redis, killed, while runs rent and pay.

    python -m bench.fleet --runs 200 --workers 3
    python -m bench.fleet --runs 20 --queue rabbitmq

A worker is SIGKILLed every few seconds and started again; the queue is flushed once, and killed
and started again once. In the end: have all runs ended, was any run ever ticked twice at once, and
are ledger and chain equal to the micro-dollar? Prints a verdict, writes bench/results/fleet.json,
and exits with 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import SecretStr

from domain.errors import ConfigError
from domain.ids import new_run_id
from domain.money import ZERO, Usd
from server.config.settings import Settings
from server.local.seed import seed_local
from server.local.stack import LocalStack
from server.runner.brokers import open_broker
from server.wiring import Services, now, open_services
from tests.support.fleet import (
    WorkerProcess,
    overlaps,
    worker_environment,
)
from tests.support.queues import NatsServer, Queue, RabbitServer, RedisServer, find_redis

QUEUES: Final[dict[str, Callable[[Path], Queue]]] = {
    "redis": lambda folder: RedisServer(find_redis(), folder),
    "nats": NatsServer,
    "rabbitmq": RabbitServer,
}
RESULTS: Final = Path(__file__).parent / "results"
GOAL: Final = "Fine-tune on an A100"
LATE_S: Final = 700
"""More than an authorization is valid for: then the chain decides what became of it."""
LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do to whom."""

    runs: int
    workers: int
    seed: int
    kill_every_s: tuple[float, float]
    most_s: float
    """How long the runs have to end."""
    lease_s: float = 8.0
    concurrency: int = 8
    """Ticks at once in a worker: few, so that most end before the next kill."""
    most_kills: int = 10_000
    queue: str = "redis"


@dataclass(slots=True)
class Verdict:
    """What the campaign came to; `broken` says in words what does not hold."""

    plan: Plan
    seconds: float = 0.0
    kills: int = 0
    ticks: int = 0
    cut_off: int = 0
    """Ticks that a kill ended."""
    ended: Counter[str] = field(default_factory=Counter)
    payments: int = 0
    ledger_total: Usd = ZERO
    chain_total: Usd = ZERO
    most_memory_mb: float = 0.0
    broken: list[str] = field(default_factory=list)


async def campaign(folder: Path, settings: Settings, queue: Queue, plan: Plan) -> Verdict:
    """Play `plan` on services that run. `folder` keeps the workers' logs."""
    verdict, rng = Verdict(plan), random.Random(plan.seed)
    env = worker_environment(
        settings,
        queue.url,
        LEASE_SECONDS=str(plan.lease_s),
        WORKER_CONCURRENCY=str(plan.concurrency),
    )
    workers = [WorkerProcess(f"worker{n}", folder, env) for n in range(plan.workers)]
    async with open_services(settings) as services:
        await seed_local(services.deps.ledger.vendors, settings, now())
        before = await services.deps.chain.balance(services.deps.wallet.address)
        run_ids = await _start_runs(services, plan.runs)
        with ExitStack() as stack:
            for worker in workers:
                stack.callback(worker.stop, signal.SIGKILL)
                worker.start()
            began = time.monotonic()
            killing = asyncio.create_task(_kill(workers, queue, rng, plan, verdict))
            try:
                await _until_closed(services, settings, run_ids, plan, verdict)
            finally:
                killing.cancel()
                await asyncio.gather(killing, return_exceptions=True)
            verdict.seconds = round(time.monotonic() - began, 1)
            for worker in workers:
                status = await asyncio.to_thread(worker.stop, signal.SIGTERM)
                if status not in (None, 0, -signal.SIGTERM, 128 + signal.SIGTERM):
                    verdict.broken.append(f"{worker.name} ended with status {status}")
        _judge_ticks(workers, verdict)
        await _judge_money(services, run_ids, before, verdict)
    return verdict


async def _start_runs(services: Services, count: int) -> list[str]:
    run_ids = [new_run_id() for _ in range(count)]
    for run_id in run_ids:
        await services.deps.ledger.runs.create(run_id, "user_1", GOAL, Usd.parse(5), now())
    return run_ids


async def _kill(
    workers: Sequence[WorkerProcess],
    queue: Queue,
    rng: random.Random,
    plan: Plan,
    verdict: Verdict,
) -> None:
    """Kill a worker that ticks, again and again; flush and restart the queue on the way."""
    while True:
        await asyncio.sleep(rng.uniform(*plan.kill_every_s))
        working = [worker for worker in workers if worker.ticks_now]
        verdict.most_memory_mb = max(
            [verdict.most_memory_mb, *(worker.memory_mb() for worker in working)]
        )
        if working and verdict.kills < plan.most_kills:
            victim = rng.choice(working)
            await asyncio.to_thread(victim.stop, signal.SIGKILL)
            verdict.kills += 1
            victim.start()
            if verdict.kills == 1:
                await asyncio.to_thread(queue.flush)
            if verdict.kills == 2:
                queue.kill()
                await asyncio.sleep(rng.uniform(0.5, 2))
                await asyncio.to_thread(queue.start)


async def _until_closed(
    services: Services, settings: Settings, run_ids: Sequence[str], plan: Plan, verdict: Verdict
) -> None:
    """Wait until each run has ended and its books are closed."""
    runs = services.deps.ledger.runs
    give_up, passed = time.monotonic() + plan.most_s, False
    wanted = {"_id": {"$in": list(run_ids)}}
    while time.monotonic() < give_up:
        await asyncio.sleep(LOOK_S)
        open_ = await runs.documents.find(
            {**wanted, "dueAt": {"$ne": None}}, fields={"status": 1, "phase": 1}
        )
        if not open_:
            return
        if not passed and all(run["status"] != "running" for run in open_):
            await _pass_time(settings)
            passed = True
    for run in open_:
        verdict.broken.append(f"{run['_id']} is {run['status']}, {run['phase']}, and still due")


async def _pass_time(settings: Settings) -> None:
    """Let every authorization expire, so that the chain decides what is still unknown."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for method, params in (("evm_increaseTime", [LATE_S]), ("evm_mine", [])):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            (await http.post(settings.chain_url, json=body)).raise_for_status()


def _judge_ticks(workers: Sequence[WorkerProcess], verdict: Verdict) -> None:
    spans = [span for worker in workers for span in worker.spans()]
    ends = {ended for worker in workers for _, ended in worker.lives}
    verdict.ticks = len(spans)
    verdict.cut_off = sum(span.ends in ends for span in spans)
    verdict.broken += overlaps(spans)


async def _judge_money(
    services: Services, run_ids: Sequence[str], before: Usd, verdict: Verdict
) -> None:
    deps = services.deps
    report = await deps.reconciler.reconcile()
    verdict.ledger_total, verdict.chain_total = report.ledger_total, report.chain_total
    if not report.ok or report.still_open or report.busy:
        verdict.broken.append(f"reconcile reports {report}")
    spent = ZERO
    for run_id in run_ids:
        run = await deps.ledger.runs.get(run_id)
        verdict.ended[run.status.value] += 1
        verdict.payments += len(await deps.ledger.payments.of_run(run_id))
        spent += run.spent
        if run.budget_total != run.budget_remaining + run.spent + run.reserved:
            verdict.broken.append(f"{run_id}: its budget does not add up")
    left = before - await deps.chain.balance(deps.wallet.address)
    if spent != left:
        verdict.broken.append(f"the runs spent {spent}, the wallet is short of {left}")
    if verdict.ended["running"]:
        verdict.broken.append(f"{verdict.ended['running']} runs have not ended")


def told(verdict: Verdict) -> str:
    """The verdict for a person."""
    plan = verdict.plan
    lines = [
        f"{plan.runs} runs, {plan.workers} workers, {verdict.seconds:g} s, seed {plan.seed}",
        f"{verdict.kills} workers killed, the queue ({plan.queue}) flushed and restarted",
        f"{verdict.ticks} ticks, {verdict.cut_off} of them cut off by a kill or the end",
        "ended: " + ", ".join(f"{n} {status}" for status, n in sorted(verdict.ended.items())),
        f"{verdict.payments} payments; ledger {verdict.ledger_total}, chain {verdict.chain_total}",
        f"most memory of a worker: {verdict.most_memory_mb:.0f} MB",
        *(f"BROKEN  {sentence}" for sentence in verdict.broken),
    ]
    if not verdict.broken:
        lines.append("all runs ended, no two ticks of a run at once, ledger = chain")
    return "\n".join(lines)


def _document(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON, with the machine."""
    amounts = {"ledger_total": str(verdict.ledger_total), "chain_total": str(verdict.chain_total)}
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    return {
        **asdict(replace(verdict, ended=Counter())),
        "ended": dict(verdict.ended),
        **amounts,
        "machine": machine,
    }


async def play(folder: Path, plan: Plan, fail_rate: float = 0.1) -> Verdict:
    """Start a MongoDB, a chain, vendors and a queue in `folder`, and play `plan` on them.

    Raises FileNotFoundError where the queue's program is missing, ConfigError where its package is.
    """
    queue = QUEUES[plan.queue](folder)
    open_broker(SecretStr(queue.url), "is its package there")
    asked = Settings(
        data_dir=folder / "data",
        fail_rate=fail_rate,
        max_exposure_usd=Usd.parse(100),  # runs side by side, none waits for another's vendor
    )
    try:
        await asyncio.to_thread(queue.start)
        async with LocalStack(asked, ephemeral=True, quick_stop=True) as stack:
            return await campaign(folder, stack.settings, queue, plan)
    finally:
        queue.kill()


def run(plan: Plan, keep: Path | None) -> int:
    """Play the plan, tell its verdict; the exit status. keep: a folder for the logs."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            verdict = asyncio.run(play(folder, plan))
        except (FileNotFoundError, ConfigError) as missing:
            print(missing, file=sys.stderr)
            return 3
    print(told(verdict))
    RESULTS.mkdir(exist_ok=True)
    name = "fleet.json" if plan.queue == "redis" else f"fleet_{plan.queue}.json"
    (RESULTS / name).write_text(json.dumps(_document(verdict), indent=2) + "\n")
    return 1 if verdict.broken else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--queue", choices=sorted(QUEUES), default="redis")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, nargs=2, default=(6.0, 12.0))
    parser.add_argument(
        "--minutes", type=float, default=15.0, help="until the runs must have ended"
    )
    parser.add_argument("--keep", type=Path, help="a folder to keep the workers' logs in")
    given = parser.parse_args()
    kill_every_s = (given.kill_every[0], given.kill_every[1])
    plan = Plan(
        given.runs, given.workers, given.seed, kill_every_s, given.minutes * 60, queue=given.queue
    )
    sys.exit(run(plan, given.keep))


if __name__ == "__main__":
    main()
