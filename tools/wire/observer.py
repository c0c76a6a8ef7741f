"""Steps, as they are seen from outside: what logs, metrics and traces are told.

The code says what it begins; who listens is decided above (server/telemetry). A listener only
watches, and a step that nobody watches costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["tick", "node", "vendor", "chain", "reconcile"]
Fact = str | int


@dataclass(slots=True)
class Step:
    """One step, while it goes on."""

    kind: Kind
    name: str
    facts: dict[str, Fact]
    """What may be shown to anyone: ids and statuses; never a secret, a URL or a payment's bytes."""
    parent: Step | None
    error: BaseException | None = field(default=None, init=False)
    """What ended it, for a listener that looks when it is over."""

    def note(self, **facts: Fact) -> None:
        """Add what became known in the meantime."""
        self.facts.update(facts)

    def known(self, name: str) -> Fact | None:
        """The fact `name` of this step, or of the nearest one around it."""
        step: Step | None = self
        while step is not None:
            if name in step.facts:
                return step.facts[name]
            step = step.parent
        return None


Listener = Callable[[Step], AbstractContextManager[None]]
"""Entered when a step begins, left when it ends, in the step's own task and context."""

_AT_HAND: Final[ContextVar[Step | None]] = ContextVar("step_at_hand", default=None)


def at_hand() -> Step | None:
    """The innermost step of the task that asks."""
    return _AT_HAND.get()


def note(**facts: Fact) -> None:
    """Add facts to the step at hand, if there is one."""
    step = _AT_HAND.get()
    if step is not None:
        step.note(**facts)


class Observer:
    """Tells its listeners of every step. One for each set of services."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()

    @contextmanager
    def listening(self, *listeners: Listener) -> Iterator[None]:
        """Have these listeners told for as long as the block runs."""
        self._listeners += listeners
        try:
            yield
        finally:
            self._listeners = tuple(one for one in self._listeners if one not in listeners)

    @contextmanager
    def step(self, kind: Kind, name: str, **facts: Fact) -> Iterator[Step]:
        """Make the block a step, and yield it. Raises only what the block raises."""
        step = Step(kind, name, facts, _AT_HAND.get())
        token = _AT_HAND.set(step)
        try:
            with ExitStack() as watching:
                for listener in self._listeners:
                    watching.enter_context(listener(step))
                try:
                    yield step
                except BaseException as error:
                    step.error = error
                    raise
        finally:
            step.error = None  # it holds its frames, and they hold the step
            _AT_HAND.reset(token)
