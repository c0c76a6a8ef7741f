"""Ticking over a queue, with any number of workers on any machines: Taskiq carries the hints.

The queue says which run to look at; the run's document says whether it is due, and lets one tick
at a time have effects (runner/tick.py). So a hint that is lost, late or doubled does no harm:

    lost      the sweeper ticks the run itself, when nobody has for a while
    late      the run is not due any more, and nothing happens
    doubled   the run's document, or the moment at which it is due next, refuses the second

While the queue is away, workers ask MongoDB, as a worker without a queue always does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from taskiq import AsyncBroker
from taskiq.acks import AcknowledgeType
from taskiq.decor import AsyncTaskiqDecoratedTask
from taskiq.receiver import Receiver

from domain.errors import StoreDown
from domain.ids import new_token
from ledger.schedule import Overdue, SweepTurn
from server.runner.worker import Tick, Worker
from server.wiring import Services

LOG: Final = logging.getLogger(__name__)
TASK: Final = "gpu-renter:tick"
SWEEP_S: Final = 0.5
"""How often what is due is put into the queue."""
TURN_S: Final = 5.0
"""How long nobody sweeps after the sweeper was killed, at most."""
HINT_S: Final = 5.0
"""Seconds without a tick after which a hint counts as lost."""
MOST_HINTS: Final = 1000
"""Hints under way at most: what is overdue beyond them comes after them."""
SEND_S: Final = 2.0
"""How long the queue may take for a hint, before it counts as away."""
QUEUE_AWAY_S: Final = (0.5, 5.0)
"""How long to wait before listening again: at first, and at most."""


class Fleet:
    """One worker of many: it listens to the queue, and takes its turn at filling it."""

    def __init__(
        self,
        services: Services,
        open_broker: Callable[[], AsyncBroker],
        *,
        tick: Tick | None = None,
    ) -> None:
        """open_broker: a new way to the queue, not started. tick: instead of `Ticker.tick`."""
        deps = services.deps
        self._now = deps.now
        self._concurrency = services.settings.worker_concurrency
        self._worker = Worker(services, tick=tick)
        self._turn = SweepTurn(deps.ledger.store, new_token(), TURN_S)
        self._open_broker = open_broker
        self._broker = self._opened()
        self._listening = False
        self._finish = asyncio.Event()
        self._hinted: dict[Overdue, float] = {}
        self.sent = 0
        """Hints put into the queue."""

    async def run(self) -> None:
        """Tick what is due, until cancelled. A queue or MongoDB that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._sweep())

    async def drain(self, grace_s: float) -> None:
        """Take nothing more; let each tick come to the end of its step. See `Pool.drain`."""
        self._finish.set()
        await self._worker.drain(grace_s)
        with suppress(StoreDown):
            await self._turn.give_back(self._now())
        await _shut(self._broker)

    def _opened(self) -> AsyncBroker:
        """A broker whose one task is to tick the run that a hint names."""

        async def tick(run_id: str) -> None:
            await self._worker.pool.take(run_id)

        broker = self._open_broker()
        broker.is_worker_process = True
        broker.register_task(tick, task_name=TASK)
        return broker

    async def _listen(self) -> None:
        """Take hints out of the queue, whatever becomes of it."""
        first, most = QUEUE_AWAY_S
        away_s = first
        while not self._finish.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await self._broker.startup()
                receiver = Receiver(
                    self._broker,
                    max_async_tasks=self._concurrency,
                    run_startup=False,
                    ack_type=AcknowledgeType.WHEN_RECEIVED,
                    wait_tasks_timeout=0,
                )
                self._listening = True
                await receiver.listen(self._finish)
            except Exception as error:  # noqa: BLE001 -- each broker has errors of its own
                LOG.warning("the queue: %s; listening again in %g s", _root(error), away_s)
                lost, self._broker = self._broker, self._opened()
                await _shut(lost)
            finally:
                self._listening = False
            lasted = asyncio.get_running_loop().time() - began
            away_s = first if lasted > most else min(most, 2 * away_s)
            await self._pause(away_s)

    async def _sweep(self) -> None:
        """Put what is due into the queue when it is our turn; without a queue, tick it here."""
        while not self._finish.is_set():
            if not self._listening:
                await self._worker.sleep(await self._worker.look())
                continue
            wait_s = SWEEP_S
            try:
                if not await self._turn.take(self._now()):
                    wait_s = TURN_S / 2
                elif (
                    due := await self._worker.due(MOST_HINTS)
                ) is not None and not await self._enqueue(due):
                    wait_s = await self._worker.look()
            except StoreDown as error:
                LOG.warning("%s", error)
                wait_s = TURN_S
            await self._worker.sleep(wait_s)

    async def _enqueue(self, due: list[Overdue]) -> bool:
        """Send a hint for each, once; tick those here whose hint led to nothing.

        False when the queue takes no more: all that is due is to be ticked here.
        """
        clock = asyncio.get_running_loop().time()
        self._hinted = {run: self._hinted[run] for run in due if run in self._hinted}
        for run in due:
            sent_at = self._hinted.get(run)
            if sent_at is None:
                if not await self._send(run.run_id):
                    return False
                self._hinted[run] = clock
            elif clock - sent_at > HINT_S:
                self._worker.pool.offer(run.run_id)
        return True

    async def _send(self, run_id: str) -> bool:
        try:
            async with asyncio.timeout(SEND_S):
                await self._hint().kiq(run_id)
        except Exception as error:  # noqa: BLE001 -- each broker has errors of its own
            LOG.warning("the queue takes no hint: %s", _root(error))
            return False
        self.sent += 1
        return True

    def _hint(self) -> AsyncTaskiqDecoratedTask[[str], None]:
        task = self._broker.find_task(TASK)
        assert task is not None, "it is registered with each broker"
        return task

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._finish.wait()


async def _shut(broker: AsyncBroker) -> None:
    with suppress(Exception):  # its connections are closed, or were lost
        async with asyncio.timeout(SEND_S):
            await broker.shutdown()


def _root(error: BaseException) -> str:
    """The kind of the first cause: its text may hold the queue's address, with a password."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
