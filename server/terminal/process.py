"""Running a command's coroutine so that Ctrl-C and SIGTERM end it in good order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

T = TypeVar("T")
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal ended the work; everything that it had started is stopped."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_status = 128 + number


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end. Raises Interrupted when a signal cancelled it, cleaned up."""
    import asyncio

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_cancellable(work))


def _loop_factory() -> Callable[[], AbstractEventLoop] | None:
    """uvloop's loops, which take less of the processor for each call; Windows has none of them."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _cancellable(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    task = asyncio.ensure_future(work)
    received: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:  # a second one must not break the cleaning up
            task.cancel()

    on_stop_signals(cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise


def on_stop_signals(act: Callable[[signal.Signals], None]) -> None:
    """Have the running loop call `act` for Ctrl-C and SIGTERM, from now on."""
    import asyncio

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, act, number)
