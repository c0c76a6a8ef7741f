"""`gpu-renter chat`, over the API, line by line."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import re
import signal
import sys
import termios
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from domain.errors import NotFound
from domain.goals import ASK_FOR_BUDGET
from server import cli
from server.api.chat import event
from server.app import create_app
from server.chat.replies import Said
from server.commands.chat import _Lines, _talk
from server.terminal.client import ServerClient
from server.terminal.output import Exit
from tests.conftest import ROOT
from tests.server.conftest import Api, opening, serving
from tests.support.served import free_ports
from tests.support.stack import FreshDatabase
from tests.support.world import World


@pytest.fixture
async def talk(database: FreshDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """An API that every ServerClient of this test reaches, without a network."""
    async with (
        World.open(database) as world,
        serving(create_app(opening(world.process.services))) as served,
    ):
        made = ServerClient.__init__

        def reach(self: ServerClient, url: str | None = None) -> None:
            made(self, url)
            self._http = served.http

        async def leave(self: ServerClient, *_: object) -> None:
            """The client is the API's own."""

        monkeypatch.setattr(ServerClient, "__init__", reach)
        monkeypatch.setattr(ServerClient, "__aexit__", leave)
        monkeypatch.setenv("GPU_RENTER_URL", "http://api")
        yield served


async def test_a_conversation_from_a_goal_to_the_end_of_its_run(
    talk: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["Train on an A100", "", "5 dollars", "go on", "how is it going?", "stop", "exit", "no"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))

    await _talk("me", None, None)

    said = capsys.readouterr().out
    assert said.startswith(ASK_FOR_BUDGET)
    assert "Understood: training on 1 × A100 for 1 h, within $5.00" in said
    assert "Job started" in said
    assert re.search("The job at (Fast|Reliable)GPU is", said)
    assert said.rstrip().endswith("Run cancelled")
    [run] = (await talk.http.get("/api/runs", params={"userId": "me"})).json()["runs"]
    assert run["status"] == "cancelled"


async def test_a_run_that_is_named_alone_is_talked_about_as_its_owner(
    talk: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = (await talk.start())["_id"]
    monkeypatch.setattr("sys.stdin", io.StringIO("how is it going?\n"))
    await _talk(None, run_id, None)
    assert "Your run is running" in capsys.readouterr().out


async def test_a_line_separator_in_what_is_said_ends_no_line() -> None:
    """Neither JSON nor an event stream takes U+2028 for the end of one; `str.splitlines` does."""
    said = event("words", Said("one\u2028two"))
    answer = httpx.Response(200, content=said, headers={"Content-Type": "text/event-stream"})
    async with ServerClient("http://api", httpx.MockTransport(lambda _: answer)) as server:
        assert [text async for _, text, _ in server.chat("me", "hello")] == ["one\u2028two"]


async def test_anothers_run_is_not_found(talk: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = (await talk.start(userId="u1"))["_id"]
    monkeypatch.setattr("sys.stdin", io.StringIO("how is it going?\n"))
    with pytest.raises(NotFound):
        await _talk("me", run_id, None)


def test_no_server_is_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    assert cli.run(["chat", "--url", url]) == Exit.DOWN
    assert "There is no server at" in capsys.readouterr().err


async def test_ctrl_c_leaves_at_once_while_nothing_is_typed() -> None:
    ours, theirs = pty.openpty()
    talking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "chat", "--url", "http://127.0.0.1:1"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
    )
    os.close(theirs)
    try:
        seen = b""
        while b"> " not in seen:
            seen += await asyncio.to_thread(os.read, ours, 1024)
        talking.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(talking.wait(), 20) == 130
    finally:
        os.close(ours)
        with suppress(ProcessLookupError):
            talking.kill()
        await talking.wait()


async def test_ctrl_c_leaves_at_once_in_the_middle_of_a_piped_line() -> None:
    theirs, ours = os.pipe()
    talking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "chat", "--url", "http://127.0.0.1:1"),
        stdin=theirs,
        cwd=ROOT,
    )
    try:
        os.write(ours, b"hel")
        await asyncio.to_thread(_until_read, theirs)
        talking.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(talking.wait(), 20) == 130
    finally:
        os.close(ours)
        os.close(theirs)
        with suppress(ProcessLookupError):
            talking.kill()
        await talking.wait()


def _until_read(pipe: int) -> None:
    """Wait until nothing is left in it: who reads it has taken that, and waits for more."""
    deadline = time.monotonic() + 20
    while any(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("ends", ["", "\n"])
async def test_lines_come_from_a_pipe_as_they_are_written(ends: str) -> None:
    come, go = os.pipe()
    with os.fdopen(come) as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        lines = _Lines()
        os.write(go, b"one\ntw")
        assert await lines.next() == "one\n"
        later = asyncio.create_task(lines.next())
        os.write(go, f"o{ends}".encode())
        os.close(go)
        assert await later == f"two{ends}"
        assert await lines.next() == ""


async def test_lines_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "said").write_text("one\ntwo")
    with (tmp_path / "said").open() as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        lines = _Lines()
        assert [await lines.next() for _ in range(3)] == ["one\n", "two", ""]
