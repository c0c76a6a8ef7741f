"""`make chaos`: the long campaign of crashes, faults and lies against the promises about money.

    python -m bench.chaos [--seed N] [--cases N] [--minutes M] [--only crash,wire] [--jobs 2]
    python -m bench.chaos --replay "recover crash@1/runs.change#3:before"

It starts the embedded MongoDB that it needs, prints what it does, writes the table to
bench/results/chaos.json, and exits with 1 when a promise was broken; the line that replays the
case is printed with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import queue
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.chaos_worker import MACHINE, Played, histories, own_stage, work
from tests.chaos.campaigns import CAMPAIGNS, Draw
from tests.chaos.case import Case
from tests.chaos.kills import kill_under_load

RESULTS: Final = Path(__file__).parent / "results" / "chaos.json"
PROGRESS_S: Final = 30
KILLS: Final = "kills"


@dataclass(slots=True)
class Tally:
    """What has been played so far."""

    cases: Counter[str] = field(default_factory=Counter)
    distinct: dict[str, set[str]] = field(default_factory=dict)
    failures: list[tuple[str, list[str]]] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    """The broken cases that have been printed."""
    payments: int = 0
    crashes: int = 0

    def add(self, played: Played) -> None:
        self.cases[played.campaign] += 1
        self.distinct.setdefault(played.campaign, set()).add(played.case)
        self.payments += played.payments
        self.crashes += played.crashes
        if played.broken:
            self.failures.append((played.case, played.broken))


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    logging.disable(logging.CRITICAL)
    if arguments.replay:
        if arguments.replay.startswith("machine batch "):
            return asyncio.run(_replay_batch(arguments.replay))
        return asyncio.run(_replay(arguments.replay))
    everything = [*CAMPAIGNS, MACHINE, KILLS]
    only = arguments.only.split(",") if arguments.only else everything
    unknown = set(only) - set(everything)
    if unknown:
        print(f"no campaign is called {', '.join(sorted(unknown))}: {', '.join(everything)}")
        return 2
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    print(
        f"seed {seed}, {arguments.cases} cases or {arguments.minutes} minutes, "
        f"{arguments.jobs} workers, campaigns {', '.join(only)}",
        flush=True,
    )
    started = time.monotonic()
    tally = Tally()
    if KILLS in only:
        _kill(seed, arguments.kills, tally)
    streamed = [name for name in only if name != KILLS]
    if streamed:
        _play_all(seed, streamed, arguments, tally)
    return _conclude(seed, tally, time.monotonic() - started)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="draws the cases; a random one otherwise")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", default="", help="campaigns, separated by commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs of the real processes")
    parser.add_argument("--replay", default="", help="one case, as it was printed")
    return parser


def _kill(seed: int, kills: int, tally: Tally) -> None:
    """The campaign against real processes: one long case, counted by its kills."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills", ignore_cleanup_errors=True) as folder:
        result = asyncio.run(kill_under_load(Path(folder), seed, kills=kills))
    text = f"kills of seed {seed}: --seed {seed} --only {KILLS}"
    for n in range(result.kills.total()):
        tally.add(Played(KILLS, f"{text} {n}", [], 0, 1))
    tally.payments += result.payments
    if result.broken:
        tally.failures.append((text, result.broken))
        _tell_failure(tally)
    print(
        f"  killed {dict(result.kills)} under {result.runs} runs, which ended "
        f"{dict(result.ended)}; {result.payments} payments, ledger {result.ledger_total}, chain "
        f"{result.chain_total}, {time.monotonic() - began:.0f} s",
        flush=True,
    )


def _play_all(seed: int, only: list[str], arguments: argparse.Namespace, tally: Tally) -> None:
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    stop: Any = context.Event()
    workers = [
        context.Process(target=work, args=(Draw(seed, part, arguments.jobs), only, results, stop))
        for part in range(arguments.jobs)
    ]
    for worker in workers:
        worker.start()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    began = time.monotonic()
    told = began
    try:
        while any(worker.is_alive() for worker in workers) or not results.empty():
            with suppress(queue.Empty):
                tally.add(results.get(timeout=0.5))
                if tally.failures and tally.failures[-1][0]:
                    _tell_failure(tally)
            now = time.monotonic()
            if now - told > PROGRESS_S:
                told = now
                print(
                    f"  {tally.cases.total():6,} cases, {(now - began) / 60:5.1f} min, "
                    f"{len(tally.failures)} broken",
                    flush=True,
                )
            enough = tally.cases.total() >= arguments.cases
            if enough or now - began > arguments.minutes * 60 or len(tally.failures) >= 20:
                stop.set()
    except KeyboardInterrupt:
        stop.set()
    for worker in workers:
        worker.join()


def _tell_failure(tally: Tally) -> None:
    case, broken = tally.failures[-1]
    if case in tally.told:
        return
    tally.told.add(case)
    print(f"BROKEN  python -m bench.chaos --replay {case!r}")
    for sentence in broken:
        print(f"        {sentence}")
    sys.stdout.flush()


def _conclude(seed: int, tally: Tally, seconds: float) -> int:
    print(f"\n{'campaign':<12}{'cases':>8}{'distinct':>10}")
    for name, cases in sorted(tally.cases.items()):
        print(f"{name:<12}{cases:>8,}{len(tally.distinct[name]):>10,}")
    distinct = sum(len(cases) for cases in tally.distinct.values())
    print(f"{'together':<12}{tally.cases.total():>8,}{distinct:>10,}")
    print(
        f"{tally.payments:,} payments settled, {tally.crashes:,} processes crashed, "
        f"{seconds / 60:.1f} minutes, seed {seed}"
    )
    broken = Counter(sentence[:2] for _, sentences in tally.failures for sentence in sentences)
    verdict = {
        p: "held" if not broken[p] else f"broken {broken[p]} times"
        for p in ("P1", "P2", "P3", "P4", "P5")
    }
    others = sum(n for p, n in broken.items() if p not in verdict)
    print(
        ", ".join(f"{p} {v}" for p, v in verdict.items())
        + (f", {others} other failures" if others else "")
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seed": seed,
                "minutes": round(seconds / 60, 1),
                "cases": dict(tally.cases),
                "distinct": {name: len(cases) for name, cases in tally.distinct.items()},
                "payments": tally.payments,
                "crashes": tally.crashes,
                "verdict": verdict,
                "failures": [{"case": c, "broken": b} for c, b in tally.failures],
            },
            indent=2,
        )
        + "\n"
    )
    return 1 if tally.failures else 0


async def _replay_batch(text: str) -> int:
    number = text.removeprefix("machine batch ").split("/")[0]
    async with own_stage() as stage:
        played = await asyncio.to_thread(histories, stage.database.uri, number)
    print("\n".join(played[0].broken) or "all promises held")
    return 1 if played[0].broken else 0


async def _replay(text: str) -> int:
    async with own_stage() as stage:
        outcome = await stage.play(Case.parse(text))
    for life, moments in outcome.moments.items():
        print(f"life {life}: {len(moments)} moments, last {moments[-1] if moments else '-'}")
    print("ticks: " + "; ".join(outcome.messages))
    print("paid:  " + ", ".join(f"{micros / 1e6:.6f} to {payee}" for payee, micros in outcome.paid))
    for sentence in outcome.broken:
        print(f"BROKEN  {sentence}")
    print("all promises held" if not outcome.broken else "")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
