"""Log lines: for a person or as JSON, each with the ids that it is about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from domain.journal import Note, NoteType, event_facts, event_line
from server.config.settings import Settings
from server.telemetry.logs import configure_logs
from tests.support.stack import FreshDatabase
from tests.support.world import Process, World
from tools.wire.observer import Observer, note

LOG = logging.getLogger("tests.logs")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The process's logging is as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_names_what_it_is_about_by_itself() -> None:
    stream, observer = io.StringIO(), Observer()
    configure_logs(Settings(), stream)

    with observer.step("tick", "tick", run="r1") as tick:
        tick.note(tick=7)
        with observer.step("node", "launch"):
            note(payment="pay_1")
            with observer.step("vendor", "quote", vendor="acme"):
                LOG.info("asked %s", "twice")
        LOG.warning("after")
    LOG.info("outside")

    asked, after, outside = lines(stream)
    assert asked["message"] == "asked twice"
    assert {k: asked[k] for k in ("run", "tick", "payment", "vendor", "node")} == {
        "run": "r1",
        "tick": 7,
        "payment": "pay_1",
        "vendor": "acme",
        "node": "launch",
    }
    assert asked["level"] == "INFO"
    assert asked["at"].endswith("Z")
    assert (after["run"], "payment" in after) == ("r1", False)
    assert "run" not in outside


def test_a_person_reads_the_same_as_text() -> None:
    stream = Terminal()
    configure_logs(Settings(), stream)

    with Observer().step("tick", "tick", run="r1", tick=7):
        LOG.warning("slow")

    assert stream.getvalue().endswith("WARNING tests.logs: slow  [run=r1 tick=7]\n")


@pytest.mark.parametrize(
    ("format_", "stream", "as_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("human", io.StringIO(), False),
    ],
)
def test_the_format_is_chosen_or_follows_the_stream(
    format_: Any, stream: io.StringIO, as_json: bool
) -> None:
    configure_logs(Settings(log_format=format_), stream)

    LOG.error("x")

    assert stream.getvalue().startswith("{") is as_json


def test_a_traceback_is_one_json_line() -> None:
    stream = io.StringIO()
    configure_logs(Settings(), stream)
    try:
        raise KeyError("lost")
    except KeyError:
        LOG.exception("it broke")

    [line] = lines(stream)
    assert "KeyError: 'lost'" in line["error"]


async def test_ticks_at_once_do_not_mix_their_ids() -> None:
    stream, observer = io.StringIO(), Observer()
    configure_logs(Settings(), stream)
    both = asyncio.Barrier(2)

    async def tick(run: str) -> None:
        with observer.step("tick", "tick", run=run):
            await both.wait()
            LOG.info("%s", run)
            await both.wait()

    await asyncio.gather(tick("a"), tick("b"))

    assert [line["run"] for line in lines(stream)] == [line["message"] for line in lines(stream)]


async def test_a_real_ticks_failure_is_logged_with_its_run(database: FreshDatabase) -> None:
    stream = io.StringIO()
    configure_logs(Settings(), stream)
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        world.process = Process(replace(world.process.services, graph=cast(Any, None)))
        with pytest.raises(AttributeError):
            await world.tick(run)

    [line] = [line for line in lines(stream) if line["level"] == "ERROR"]
    assert line["run"] == run.id
    assert line["tick"] == 2


async def test_what_moves_money_and_ends_a_run_is_a_line_each_with_ids_and_amounts(
    database: FreshDatabase,
) -> None:
    stream = io.StringIO()
    configure_logs(Settings(), stream)
    async with World.open(database, failing="gpu_vendor_1", refund_on_failure=True) as world:
        run = await world.start()
        await world.ticks(run)
        payments = await world.payments(run)
        assert [p.header for p in payments if p.header]

    found = [line for line in lines(stream) if "event" in line]
    told = [line["event"] for line in found]
    assert told == [
        "payment_authorized",
        "payment_settled",
        "job_started",
        "refund_claimed",
        "payment_refunded",
        "recovery",
        "payment_authorized",
        "payment_settled",
        "job_started",
        "run_completed",
    ]
    assert {line["run"] for line in found} == {run.id}
    assert {line["level"] for line in found} == {"INFO"}
    settled = [line for line in found if line["event"] == "payment_settled"]
    assert [(p.id, p.vendor_id, p.amount.micros, p.tx_id) for p in payments] == [
        (line["payment"], line["vendor"], line["amountMicros"], line["tx"]) for line in settled
    ]
    [refunded] = [line for line in found if line["event"] == "payment_refunded"]
    assert refunded["refundedMicros"] == payments[0].refunded.micros > 0
    assert not any(p.header in stream.getvalue() for p in payments if p.header)


def test_a_person_reads_an_event_with_the_ids_that_it_is_about() -> None:
    stream = Terminal()
    configure_logs(Settings(), stream)
    note = Note(
        NoteType.PAYMENT_SETTLED, "$1.40\nsettled\x1b[2J", {"paymentId": "pay_1", "slot": 0}
    )

    LOG.info("%s", event_line(note), extra={"facts": event_facts("r1", note)})

    assert stream.getvalue().endswith(
        "tests.logs: payment_settled: $1.40; settled?[2J  [run=r1 payment=pay_1]\n"
    )
