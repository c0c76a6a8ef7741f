"""Random histories, drawn and shrunk by hypothesis, against a small model of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pymongo import AsyncMongoClient

from domain.money import ZERO
from tests.chaos.case import Case
from tests.chaos.effects import Crash, Hook, Meddle, Moment
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import RUN_ID, Play, Stage
from tests.chaos.wire import EVERYWHERE, FAULTS, PAID_ONLY, VENDOR_ONLY
from tests.support.stack import Document, FreshDatabase
from tests.support.world import AGENT

T = TypeVar("T")

VENDOR_FAULTS = (
    "silent_before_settling",
    "silent_after_settling",
    "drop_response_after_settling",
    "error_before_settling",
    "error_after_settling",
    "price_above_quote",
    "wrong_pay_to",
    "malformed_402",
    "redirect",
    "refuse",
    "never_boot",
    "ghost_job",
    "hang",
)


@dataclass(slots=True)
class LivePlay(Play):
    """A play whose disturbances are decided while it goes on."""

    fuse: int = 0
    """The process dies at the fuse-th moment from now; 0: it does not."""
    brewing: list[str] = field(default_factory=list)
    """Faults that strike the next requests to vendors."""

    def _hook(self, life: int) -> Hook:
        del life

        async def hook(moment: Moment) -> None:
            if self.fuse:
                self.fuse -= 1
                if not self.fuse:
                    raise Crash(moment)

        return hook

    def _meddle(self, life: int) -> Meddle:
        del life

        async def meddle(name: str, n: int, request: httpx.Request, send: Any) -> httpx.Response:
            del name, n
            if request.url.host == "vendor.test" and self.brewing:
                return await FAULTS[self.brewing.pop(0)](self.wire, request, send)
            return await send(request)  # type: ignore[no-any-return]

        return meddle


@dataclass(slots=True)
class Model:
    """The ledger in four numbers a slot: what was signed for it and what the chain says."""

    total: int
    signed: dict[str, int] = field(default_factory=dict)
    """By nonce: the most that was ever authorized."""
    paid: dict[str, int] = field(default_factory=dict)
    """By nonce: what the chain shows."""
    back: int = 0

    def least_left(self) -> int:
        """With every signature paid: budgetRemaining is never below, but for one held slot."""
        return self.total - sum(self.signed.values())

    def most_left(self) -> int:
        """With nothing more than the chain shows: budgetRemaining is never above."""
        return self.total - sum(self.paid.values()) + self.back


class Histories(RuleBasedStateMachine):
    """Ticks, crashes, faults, cancels, reconciles and late settlements in any order."""

    uri = ""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.Runner()
        self._exits = AsyncExitStack()
        self._folder = TemporaryDirectory(prefix="history")

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    @initialize(scenario=st.sampled_from(["recover", "refund", "slices", "tight"]))
    def begin(self, scenario: str) -> None:
        self._wait(self._begin(scenario))

    async def _begin(self, scenario: str) -> None:
        client: AsyncMongoClient[Document] = AsyncMongoClient(self.uri, tz_aware=True)
        self._exits.push_async_callback(client.close)
        database = FreshDatabase(self.uri, "histories", client)
        opened = Stage.open(database, Path(self._folder.name))
        stage = await self._exits.enter_async_context(opened)
        await stage.clear()
        self.play = LivePlay(stage, Case(scenario), replace(SCENARIOS[scenario], pays=()))
        await self._exits.enter_async_context(self.play.opened())
        run = await stage.ledger.runs.get(RUN_ID)
        self.model = Model(run.budget_total.micros)

    @rule(seconds=st.sampled_from([1, 20, 90]))
    def tick(self, seconds: int) -> None:
        self._wait(self._tick())
        self.play.world.clock.advance(seconds)

    @rule(fuse=st.integers(1, 150))
    def tick_and_die(self, fuse: int) -> None:
        self.play.fuse = fuse
        self._wait(self._tick())
        self.play.fuse = 0

    async def _tick(self) -> None:
        await self.play.tick()
        await self.play.wire.deliver()
        await self.play.check()

    @rule(fault=st.sampled_from([*EVERYWHERE, *VENDOR_ONLY, *PAID_ONLY]), times=st.integers(1, 3))
    def disturb_the_wire(self, fault: str, times: int) -> None:
        self.play.brewing = [fault] * times

    @rule(
        fault=st.sampled_from(VENDOR_FAULTS),
        vendor=st.sampled_from(["gpu_vendor_1", "gpu_vendor_2", "*"]),
        call=st.sampled_from(["submit-job", "submit-job", "extend-job", "job-status", "*"]),
        times=st.integers(1, 3),
    )
    def vendor_misbehaves(self, fault: str, vendor: str, call: str, times: int) -> None:
        self.play.world.vendor_fault(vendor, call, fault, times)

    @rule(seconds=st.sampled_from([61, 320, 700]))
    def time_passes(self, seconds: int) -> None:
        self.play.world.clock.advance(seconds)
        self._wait(self.play.wire.deliver())

    @rule()
    def the_held_payment_settles(self) -> None:
        self._wait(self.play.do("settle-held"))

    @rule()
    def reconcile(self) -> None:
        self._wait(self.play.do("reconcile"))

    @rule(fuse=st.integers(1, 40))
    def reconcile_and_die(self, fuse: int) -> None:
        self.play.fuse = fuse
        self._wait(self.play.do("reconcile"))
        self.play.fuse = 0

    @precondition(lambda self: len(self.play.messages) > 3)
    @rule()
    def cancel(self) -> None:
        self._wait(self.play.do("cancel"))

    @invariant()
    def the_promises_hold(self) -> None:
        self._wait(self.play.check())
        assert not self.play.broken, (self.play.messages, self.play.broken)

    @invariant()
    def the_ledger_stays_within_the_model(self) -> None:
        self._follow()
        run = self._wait(self.play.stage.ledger.runs.get(RUN_ID))
        held = sum((r.amount for r in run.reservations), ZERO).micros
        assert run.budget_remaining.micros <= self.model.most_left(), (run, self.model)
        assert run.budget_remaining.micros + held >= self.model.least_left(), (run, self.model)

    def teardown(self) -> None:
        try:
            if hasattr(self, "play"):
                self._wait(self._finish())
        finally:
            self._loop.close()
            self._folder.cleanup()

    async def _finish(self) -> None:
        try:
            self.play.brewing = []
            self.play.world.clear_faults()
            if not self.play.broken:
                await self.play.do("cancel")
                await self.play.tick_on()
                await self.play.conclude()
        finally:
            await self._exits.aclose()
        assert not self.play.broken, (self.play.messages, self.play.broken)

    def _follow(self) -> None:
        """What the model knows: from the signatures that left, and from the chain."""
        for sent in self.play.record.payments.values():
            known = self.model.signed.get(sent.nonce, 0)
            self.model.signed[sent.nonce] = max(known, sent.micros)
        transfers = [t for t in self.play.world.chain.transfers if t.sender == AGENT]
        self.model.paid = {t.nonce or "": t.value for t in transfers}
        self.model.back = sum(t.value for t in self.play.evidence.back())
