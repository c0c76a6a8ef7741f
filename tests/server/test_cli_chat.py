"""`gpu-renter chat`, over the API, line by line."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest

from domain.errors import NotFound
from domain.goals import ASK_FOR_BUDGET
from server import cli
from server.app import create_app
from server.commands.chat import _talk
from server.commands.client import ServerClient
from server.commands.output import Exit
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
    assert "The job at gpu_vendor_" in said
    assert said.rstrip().endswith("Run cancelled")
    [run] = (await talk.http.get("/api/runs", params={"userId": "me"})).json()["runs"]
    assert run["status"] == "cancelled"


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
