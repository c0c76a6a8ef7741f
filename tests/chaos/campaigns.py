"""The campaigns: which cases there are, and in which order a seed draws them.

A campaign is a seeded stream of cases, endless but for the sweeps over every effect. Some cases
follow from what an earlier one reached (the second of two crashes), so a stream is driven by
hand: it yields a case and is sent that case's outcome.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final, TypeVar

from tests.chaos.case import Case, CrashAt, Do, Event, NetFault, PauseAt, VendorFault
from tests.chaos.effects import Moment, When
from tests.chaos.stage import Outcome
from tests.chaos.wire import CHAIN_ONLY, EVERYWHERE, PAID_ONLY, VENDOR_ONLY

T = TypeVar("T")
Stream = Generator[Case, Outcome, None]


@dataclass(frozen=True, slots=True)
class Draw:
    """Whose cases to draw: worker `part` of `parts`, which share the sweeps between them."""

    seed: int
    part: int = 0
    parts: int = 1

    def rng(self, campaign: str) -> random.Random:
        return random.Random(f"{self.seed} {campaign} {self.part}/{self.parts}")

    def share(self, campaign: str, things: Iterable[T]) -> list[T]:
        """This worker's part of a sweep, shuffled."""
        shuffled = list(things)
        random.Random(f"{self.seed} {campaign} {len(shuffled)}").shuffle(shuffled)
        return shuffled[self.part :: self.parts]


Campaign = Callable[[Draw], Stream]

VENDOR_CALLS: Final = frozenset(
    {"quote", "submit-job", "extend-job", "job-status", "cancel-job", "artifacts"}
)
PAID_CALLS: Final = frozenset({"submit-job", "extend-job"})


def crashes(draw: Draw) -> Stream:
    """One crash, before and after every effect of each scenario."""
    for scenario in ("recover", "refund", "slices", "tight", "asked", "asked-slices"):
        clean = yield Case(scenario)
        for moment in draw.share("crashes", clean.moments[1]):
            yield Case(scenario, (CrashAt(1, moment),))


def double_crashes(draw: Draw) -> Stream:
    """A second crash at an effect of the process that resumed after the first."""
    rng = draw.rng("double_crashes")
    clean: dict[str, Outcome] = {}
    for name in ("recover", "refund", "simple"):
        clean[name] = yield Case(name)
    while True:
        name = rng.choice(("recover", "refund", "simple", "simple"))
        first = CrashAt(1, rng.choice(clean[name].moments[1]))
        outcome = yield Case(name, (first,))
        resumed = outcome.moments.get(2, [])
        # Near the crash is where the resumed process finishes what the first began.
        for moment in rng.sample(resumed[:60], min(5, len(resumed))):
            yield Case(name, (first, CrashAt(2, moment)))


def faulty_wire(draw: Draw) -> Stream:
    """Each HTTP call, each fault of the network."""
    rng = draw.rng("faulty_wire")
    for scenario in ("recover", "refund", "slices"):
        clean = yield Case(scenario)
        calls = [m for m in clean.moments[1] if m.name.startswith("http.") and m.when == "before"]
        faults = [(m, fault) for m in calls for fault in _faults_of(m.name)]
        for moment, fault in draw.share("faulty_wire", faults):
            times = 9 if rng.random() < 0.3 else 1
            event = NetFault(fault, 1, moment.name, moment.n, times)
            outcome = yield Case(scenario, (event,))
            if rng.random() < 0.5 and len(outcome.moments[1]) > 4:
                later = _after(outcome.moments[1], moment)
                yield Case(scenario, (event, CrashAt(1, rng.choice(later[:80]))))


def stale_workers(draw: Draw) -> Stream:
    """A tick is held up at an effect, its lease expires, another process takes over."""
    rng = draw.rng("stale_workers")
    for scenario in cycle(("recover", "simple", "refund", "slices", "asked")):
        clean = yield Case(scenario)
        for moment in draw.share("stale_workers", clean.moments[1]):
            ticks = rng.choice((0, 1, 1, 2, 3))
            yield Case(scenario, (PauseAt(1, moment, ticks),))


def stale_and_silent(draw: Draw) -> Stream:
    """The same while the first vendor is silent, so that a slot is shared with a rival."""
    rng = draw.rng("stale_and_silent")
    while True:
        scenario = rng.choice(("recover", "simple", "tight"))
        base = Case(scenario, tuple(_silence(rng)))
        clean = yield base
        for moment in rng.sample(clean.moments[1], min(12, len(clean.moments[1]))):
            ticks = rng.choice((0, 1, 1, 2, 3, 5))
            yield base.but(PauseAt(1, moment, ticks))
            yield base.but(CrashAt(1, moment))


def lies(draw: Draw) -> Stream:
    """Vendors that lie or fail, a chain that is read wrong, and what comes of both with a crash."""
    rng = draw.rng("lies")
    while True:
        scenario = rng.choice(("recover", "refund", "slices", "tight"))
        base = Case(scenario, tuple(_lie(rng)))
        outcome = yield base
        for moment in rng.sample(outcome.moments[1], min(4, len(outcome.moments[1]))):
            yield base.but(CrashAt(1, moment))


def cancellations(draw: Draw) -> Stream:
    """The user cancels at some tick, with crashes and lies around it."""
    rng = draw.rng("cancellations")
    while True:
        scenario = rng.choice(("recover", "slices", "simple"))
        events: list[Event] = [Do("cancel", rng.randint(1, 5))]
        if rng.random() < 0.6:
            events += _lie(rng)
        base = Case(scenario, tuple(events))
        outcome = yield base
        for moment in rng.sample(outcome.moments[1], min(6, len(outcome.moments[1]))):
            yield base.but(CrashAt(1, moment))


def reconciling(draw: Draw) -> Stream:
    """Crashes within reconcile, while there is something left to close."""
    rng = draw.rng("reconciling")
    while True:
        scenario = rng.choice(("simple", "refund"))
        base = Case(scenario, tuple(_left_open(rng)))
        outcome = yield base
        reached = outcome.moments[1][-80:]
        for moment in rng.sample(reached, min(12, len(reached))):
            yield base.but(CrashAt(1, moment))
            if rng.random() < 0.3:
                yield base.but(CrashAt(1, moment), CrashAt(2, Moment("runs.find", 1, When.AFTER)))


def stale_reconcilers(draw: Draw) -> Stream:
    """Reconcile is held up, its lease expires, and ticks go on; also with a cancel meanwhile."""
    rng = draw.rng("stale_reconcilers")
    steps = (
        "runs.share#1",
        "runs.acquire#3",
        "payments.insert#2",
        "payments.authorized#2",
        "http.submit-job#5",
        "checkpoint.put#17",
    )
    while True:
        crash = Case.parse(f"recover crash@1/{rng.choice(steps)}:before").events
        base = Case(
            "recover",
            (
                VendorFault("silent_before_settling", "*", "submit-job", rng.choice((0, 3, 4))),
                *crash,
                Do(f"advance-{rng.choice((61, 320, 320, 700))}", 4),
                Do("reconcile", 4),
            ),
        )
        reached = (yield base).moments.get(2, [])[:40]
        for moment in rng.sample(reached, min(8, len(reached))):
            late = [Do("settle-held", 5)] if rng.random() < 0.7 else []
            yield base.but(PauseAt(2, moment, rng.choice((1, 2))), *late)
        clean = yield Case("simple")
        for moment in rng.sample(clean.moments[1], 4):
            yield Case("simple", (PauseAt(1, moment, 1), Do("cancel", 0)))


def histories(draw: Draw) -> Stream:
    """Anything with anything."""
    rng = draw.rng("histories")
    while True:
        scenario = rng.choice(("recover", "refund", "slices", "tight", "simple"))
        events: list[Event] = []
        for _ in range(rng.randint(1, 3)):
            events += rng.choice((_lie, _silence, _disturbance))(rng)
        base = Case(scenario, tuple(events))
        reached = (yield base).moments[1]
        for _ in range(3):
            moments = rng.sample(reached, min(2, len(reached)))
            more: list[Event] = [CrashAt(life, m) for life, m in enumerate(moments, start=1)]
            yield base.but(*more)


def on_the_evm(draw: Draw) -> Stream:
    """A mixture of the others on the real EVM."""
    rng = draw.rng("on_the_evm")
    streams = {n: CAMPAIGNS[n](draw) for n in ("crash2", "lies", "history", "cancel", "rival")}
    upcoming = {name: next(stream) for name, stream in streams.items()}
    while True:
        name = rng.choice(sorted(streams))
        case = upcoming[name]
        upcoming[name] = streams[name].send((yield Case(f"evm-{case.scenario}", case.events)))


def approvals(draw: Draw) -> Stream:
    """Payments that a person has to approve, with crashes, lies, and a state put to `pay`."""
    rng = draw.rng("approvals")
    while True:
        scenario = rng.choice(("asked", "asked-slices"))
        events: list[Event] = [Do("to-pay", rng.randint(2, 9))]
        events += rng.choice((_lie, _silence, lambda _: ()))(rng)
        base = Case(scenario, tuple(events))
        reached = (yield base).moments[1]
        for moment in rng.sample(reached, min(6, len(reached))):
            yield base.but(CrashAt(1, moment))
            if rng.random() < 0.3:
                yield base.but(PauseAt(1, moment, rng.choice((1, 2, 3))))


CAMPAIGNS: Final[Mapping[str, Campaign]] = {
    "crash": crashes,
    "crash2": double_crashes,
    "wire": faulty_wire,
    "stale": stale_workers,
    "rival": stale_and_silent,
    "lies": lies,
    "cancel": cancellations,
    "reconcile": reconciling,
    "stale2": stale_reconcilers,
    "history": histories,
    "approve": approvals,
    "evm": on_the_evm,
}


def _faults_of(name: str) -> Sequence[str]:
    call = name.removeprefix("http.")
    if call not in VENDOR_CALLS:
        return (*EVERYWHERE, *CHAIN_ONLY)
    return (*EVERYWHERE, *VENDOR_ONLY, *(PAID_ONLY if call in PAID_CALLS else ()))


def _left_open(rng: random.Random) -> Iterator[Event]:
    """The run ends with money under way; the chain decides later."""
    yield VendorFault("silent_before_settling", "gpu_vendor_1", "submit-job", 0)
    yield Do("cancel", 2)
    if rng.random() < 0.7:
        yield Do("settle-held", 3)
    else:
        yield Do("advance-700", 3)
    yield Do("reconcile", 4)
    yield Do("reconcile", 5)


def _disturbance(rng: random.Random) -> Iterator[Event]:
    call = rng.choice(sorted(VENDOR_CALLS))
    fault = rng.choice(_faults_of(f"http.{call}"))
    yield NetFault(
        fault, rng.choice((1, 1, 2)), f"http.{call}", rng.randint(1, 4), rng.choice((1, 1, 2, 5))
    )
    if rng.random() < 0.3:
        yield Do(rng.choice(("reconcile", "restart", "advance-61", "cancel")), rng.randint(2, 8))


def _silence(rng: random.Random) -> Iterator[Event]:
    fault = rng.choice(
        (
            "silent_before_settling",
            "silent_before_settling",
            "silent_after_settling",
            "drop_response_after_settling",
        )
    )
    yield VendorFault(
        fault,
        rng.choice(("gpu_vendor_1", "gpu_vendor_1", "*")),
        "submit-job",
        rng.choice((0, 1, 2, 3)),
    )
    if rng.random() < 0.6:
        yield Do("settle-held", rng.randint(2, 6))
    if rng.random() < 0.2:
        yield Do("advance-700", rng.randint(2, 5))


def _lie(rng: random.Random) -> Iterator[Event]:
    kind = rng.randrange(5)
    if kind == 0:
        yield from _silence(rng)
    elif kind == 1:
        fault = rng.choice(("failing_refund", "claimed_refund"))
        yield VendorFault(fault, "*", "cancel-job", rng.choice((0, 1)))
        yield VendorFault(
            rng.choice(("ghost_job", "never_boot", "ghost_job_404")),
            "gpu_vendor_1",
            "submit-job",
            1,
        )
    elif kind == 2:
        fault = rng.choice(
            (
                "price_above_quote",
                "wrong_pay_to",
                "wrong_asset",
                "wrong_network",
                "redirect",
                "malformed_402",
                "refuse",
                "error_before_settling",
                "error_after_settling",
                "drop_response_after_settling",
            )
        )
        call = rng.choice(("submit-job", "submit-job", "extend-job", "*"))
        yield VendorFault(fault, "gpu_vendor_1", call, rng.choice((0, 1, 2)))
    elif kind == 3:
        fault = rng.choice((*CHAIN_ONLY, "lost_answer", "garbage"))
        method = rng.choice(
            (
                "eth_call",
                "eth_getLogs",
                "eth_getTransactionReceipt",
                "eth_blockNumber",
                "eth_getBlockByNumber",
            )
        )
        yield NetFault(fault, 1, f"http.{method}", rng.randint(1, 12), rng.choice((1, 3, 9, 40)))
    else:
        fault = rng.choice(PAID_ONLY)
        call = rng.choice(("submit-job", "submit-job", "extend-job"))
        yield NetFault(fault, 1, f"http.{call}", rng.randint(1, 4), rng.choice((1, 2)))
        if rng.random() < 0.5:
            yield from _silence(rng)


def _after(moments: Sequence[Moment], moment: Moment) -> Sequence[Moment]:
    reached = list(moments)
    start = reached.index(moment) if moment in reached else 0
    return reached[start + 1 :] or reached
