"""A case: one scenario and what goes wrong in it, written as one line that replays it.

    recover crash@1/runs.reserve#1:before crash@2/sign#1:after

Events are
    crash@LIFE/EFFECT#N:before|after        the process dies there
    pause@LIFE/EFFECT#N:before|after+K      it is held up there while another process takes over
                                            and ticks K times (0: until the run has ended)
    net.FAULT@LIFE/EFFECT#N*K               FAULT strikes K requests from the N-th on
    vendor.FAULT@VENDOR/CALL*K              the vendor misbehaves K times (0: always)
    do.ACTION@T                             ACTION before the T-th tick; 0: during the pause
where LIFE counts the processes of the case from 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.chaos.effects import Moment, When


@dataclass(frozen=True, slots=True)
class CrashAt:
    life: int
    moment: Moment

    def __str__(self) -> str:
        return f"crash@{self.life}/{self.moment}"


@dataclass(frozen=True, slots=True)
class PauseAt:
    life: int
    moment: Moment
    ticks: int
    """How often the other process ticks meanwhile; 0: until the run has ended."""

    def __str__(self) -> str:
        return f"pause@{self.life}/{self.moment}+{self.ticks}"


@dataclass(frozen=True, slots=True)
class NetFault:
    fault: str
    life: int
    name: str
    n: int
    times: int = 1

    def __str__(self) -> str:
        return f"net.{self.fault}@{self.life}/{self.name}#{self.n}*{self.times}"

    def strikes(self, life: int, name: str, n: int) -> bool:
        return (life, name) == (self.life, self.name) and self.n <= n < self.n + self.times


@dataclass(frozen=True, slots=True)
class VendorFault:
    fault: str
    vendor: str
    call: str
    times: int
    """0: always."""

    def __str__(self) -> str:
        return f"vendor.{self.fault}@{self.vendor}/{self.call}*{self.times}"


@dataclass(frozen=True, slots=True)
class Do:
    action: str
    tick: int

    def __str__(self) -> str:
        return f"do.{self.action}@{self.tick}"


Event = CrashAt | PauseAt | NetFault | VendorFault | Do


@dataclass(frozen=True, slots=True)
class Case:
    scenario: str
    events: tuple[Event, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.scenario, *map(str, self.events)])

    @property
    def evm(self) -> bool:
        """Whether it is played on the EVM: its scenario's name begins with `evm-`."""
        return self.scenario.startswith("evm-")

    @classmethod
    def parse(cls, text: str) -> Case:
        """Raises ValueError."""
        scenario, *events = text.split()
        return cls(scenario, tuple(_event(event) for event in events))

    def but(self, *events: Event) -> Case:
        return Case(self.scenario, (*self.events, *events))


_MOMENT = r"(?P<life>\d+)/(?P<name>[\w.-]+)#(?P<n>\d+):(?P<when>before|after)"
_CRASH = re.compile(f"crash@{_MOMENT}")
_PAUSE = re.compile(rf"pause@{_MOMENT}\+(?P<ticks>\d+)")
_NET = re.compile(r"net\.(?P<fault>\w+)@(?P<life>\d+)/(?P<name>[\w.-]+)#(?P<n>\d+)\*(?P<times>\d+)")
_VENDOR = re.compile(
    r"vendor\.(?P<fault>\w+)@(?P<vendor>[\w*-]+)/(?P<call>[\w*-]+)\*(?P<times>\d+)"
)
_DO = re.compile(r"do\.(?P<action>[\w-]+)@(?P<tick>\d+)")


def _event(text: str) -> Event:
    if found := _CRASH.fullmatch(text):
        return CrashAt(int(found["life"]), _moment(found))
    if found := _PAUSE.fullmatch(text):
        return PauseAt(int(found["life"]), _moment(found), int(found["ticks"]))
    if found := _NET.fullmatch(text):
        life, n, times = int(found["life"]), int(found["n"]), int(found["times"])
        return NetFault(found["fault"], life, found["name"], n, times)
    if found := _VENDOR.fullmatch(text):
        return VendorFault(found["fault"], found["vendor"], found["call"], int(found["times"]))
    if found := _DO.fullmatch(text):
        return Do(found["action"], int(found["tick"]))
    raise ValueError(f"{text!r} is no event")


def _moment(found: re.Match[str]) -> Moment:
    return Moment(found["name"], int(found["n"]), When(found["when"]))
