"""`gpu-renter download`, and runs that are named by the beginning of their ids."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.errors import InvalidInput, NotFound, RenterError
from domain.money import Usd
from server import cli
from server.commands.download import _download, _target
from server.terminal.client import ServerClient
from server.terminal.output import Exit
from server.wiring import Services
from tests.server.conftest import Api
from tests.support.stack import VendorAdmin

ID = "514d02d5b059c94c0c191c22"
OTHER = "514e02d5b059c94c0c191c22"


def reach(transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every ServerClient of the test ask over `transport`."""
    made = ServerClient.__init__

    def reached(self: ServerClient, url: str | None = None) -> None:
        made(self, url, transport)

    monkeypatch.setattr(ServerClient, "__init__", reached)
    monkeypatch.setenv("GPU_RENTER_URL", "http://api")


@pytest.fixture
def reached(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    reach(api.http._transport, monkeypatch)
    return api


async def test_a_result_is_written_whole_and_checked_against_its_run(
    reached: Api,
    vendor_admin: VendorAdmin,  # noqa: ARG001
    services: Services,
    tmp_path: Path,
) -> None:
    run_id = (await reached.start())["_id"]
    here = tmp_path / "results"
    here.mkdir()
    with pytest.raises(NotFound, match="has no artifact"):
        await _download(run_id, str(here), None)
    await reached.finish(run_id)
    job = (await reached.status(run_id))["jobs"][-1]

    told = await _download(run_id[:12], str(here), None)

    file = here / "model.json"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == job["artifactSha256"] == told.sha256
    assert (told.file, told.bytes, told.verified) == (str(file), file.stat().st_size, True)
    with pytest.raises(InvalidInput, match="is there already"):
        await _download(run_id, str(here), None)
    with pytest.raises(InvalidInput, match="cannot be written"):
        await _download(run_id, str(here / "no" / "folder"), None)

    other = {"$set": {"artifactSha256": "0" * 64}}
    await services.deps.ledger.jobs.documents.change(job["_id"], {}, other)
    with pytest.raises(RenterError, match="is not the run's result"):
        await _download(run_id, str(here / "again.json"), None)
    assert list(here.iterdir()) == [file], "nothing is left of what was not written"


def test_what_ends_like_a_folder_is_one_and_is_made(tmp_path: Path) -> None:
    models = tmp_path / "models"

    assert _target(f"{models}/", "model.json") == models / "model.json"
    assert models.is_dir()
    assert _target(str(models), "model.json") == models / "model.json"
    assert _target(str(tmp_path / "mine.json"), "model.json") == tmp_path / "mine.json"
    assert _target("", "model.json") == Path("model.json")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="cannot be written"):
        _target(f"{tmp_path}/file/", "model.json")


async def test_the_beginning_of_an_id_names_a_run_where_no_other_begins_so(
    reached: Api, services: Services
) -> None:
    deps = services.deps
    for run_id, user in ((ID, "u1"), (OTHER, "u1"), ("514e0000", "u2"), ("514", "u1")):
        await deps.ledger.runs.create(run_id, user, "Train", Usd.parse(5), deps.now())
    del reached
    async with ServerClient() as server:
        assert await server.whole_id("514d") == ID
        assert await server.whole_id("514e0000") == "514e0000", "a whole one is itself"
        assert await server.whole_id("ffff") == "ffff"
        assert await server.whole_id("514") == "514", "so few characters are looked up as they are"
        with pytest.raises(InvalidInput, match=f"begins several runs: 514e0000, {OTHER}"):
            await server.whole_id("514e")


async def test_runs_are_listed_by_the_beginning_of_their_ids(api: Api, services: Services) -> None:
    deps = services.deps
    for run_id, user in ((OTHER, "u2"), (ID, "u1")):
        await deps.ledger.runs.create(run_id, user, "Train", Usd.parse(5), deps.now())

    async def found(**query: str) -> list[str]:
        answer = await api.http.get("/api/runs", params=query)
        return [run["_id"] for run in answer.raise_for_status().json()["runs"]]

    assert await found(idPrefix="514d") == [ID]
    assert await found(idPrefix="514d", userId="u2") == []
    assert await found(idPrefix="ffff") == []
    for bad in ("514", "514$", "a" * 65):
        assert (await api.http.get("/api/runs", params={"idPrefix": bad})).status_code == 400


@pytest.mark.parametrize("command", ["tick", "status", "watch", "cancel", "approve", "download"])
def test_every_command_about_a_run_takes_the_beginning_of_its_id(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/runs":
            assert request.url.params["idPrefix"] == "514d"
            return httpx.Response(200, json={"runs": [{"_id": ID}]})
        body: dict[str, Any] = json.loads(request.content) if request.content else {}
        asked.append(str(body.get("runId") or request.url.params.get("runId")))
        return httpx.Response(404, json={"error": f"There is no run {asked[-1]!r}"})

    reach(httpx.MockTransport(answer), monkeypatch)

    assert cli.run([command, "514d"]) == Exit.NOT_FOUND
    assert asked == [ID]
    assert ID in capsys.readouterr().err
