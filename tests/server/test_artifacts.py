"""A run's artifact over HTTP: the bytes that the vendor's job made, and no other file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from server.api.artifacts import CHUNK_BYTES, Download
from server.wiring import Services
from tests.server.conftest import Api
from tests.support.stack import VendorAdmin

UNKNOWN = "0123456789abcdef01234567"


async def finished(api: Api) -> dict[str, Any]:
    """The job of a run that has completed."""
    run_id = (await api.start())["_id"]
    await api.finish(run_id)
    return dict((await api.status(run_id))["jobs"][-1])


async def test_the_artifact_is_handed_out_as_a_file(api: Api, vendor_admin: VendorAdmin) -> None:  # noqa: ARG001
    job = await finished(api)

    for address in (f"/api/agent-artifact?runId={job['runId']}", f"/runs/{job['runId']}/artifact"):
        answer = await api.http.get(address)
        assert answer.status_code == 200
        assert hashlib.sha256(answer.content).hexdigest() == job["artifactSha256"]
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == 'attachment; filename="model.json"'
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["etag"] == f'"{job["artifactSha256"]}"'
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_a_run_without_an_artifact_says_so(api: Api) -> None:
    run_id = (await api.start())["_id"]
    answer = await api.http.get("/api/agent-artifact", params={"runId": run_id})
    page = await api.http.get(f"/runs/{run_id}/artifact")

    assert answer.status_code == page.status_code == 404
    assert answer.json()["error"].startswith(f"Run {run_id} has no artifact. There is one once")
    assert "has no artifact" in page.text
    assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("run_id", [UNKNOWN, "x", "a" * 65, "..", "%2e%2e", "a%00b"])
async def test_a_run_that_is_not_there_has_none(api: Api, run_id: str) -> None:
    answer = await api.http.get(f"/api/agent-artifact?runId={run_id}")
    page = await api.http.get(f"/runs/{run_id}/artifact")

    assert answer.status_code in (400, 404)
    assert "error" in answer.json()
    assert page.status_code == 404


def _another_runs(folder: Path) -> Path:
    return _file(folder.parent / "another" / "job" / "secret.txt")


def _outside(folder: Path) -> Path:
    return _file(folder.parent.parent / "secret.txt")


def _by_dots(folder: Path) -> Path:
    _outside(folder)
    return folder / ".." / ".." / "secret.txt"


def _link(folder: Path) -> Path:
    (folder / "link").symlink_to(_outside(folder))
    return folder / "link"


def _through_a_linked_folder(folder: Path) -> Path:
    (folder / "out").symlink_to(_outside(folder).parent)
    return folder / "out" / "secret.txt"


def _circle(folder: Path) -> Path:
    (folder / "circle").symlink_to(folder / "circle")
    return folder / "circle"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _folder(folder: Path) -> Path:
    return folder


def _gone(folder: Path) -> Path:
    return folder / "gone"


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("secret")
    return path


@pytest.mark.parametrize(
    "place",
    [
        _another_runs,
        _outside,
        _by_dots,
        _link,
        _through_a_linked_folder,
        _circle,
        _pipe,
        _folder,
        _gone,
    ],
)
async def test_no_file_but_the_runs_own_is_handed_out(
    api: Api, services: Services, place: Callable[[Path], Path]
) -> None:
    run_id = (await api.start())["_id"]
    await api.message(run_id)
    deps = services.deps
    folder = deps.artifacts / run_id
    folder.mkdir(parents=True)
    [job] = await deps.ledger.jobs.of_run(await deps.ledger.runs.get(run_id))
    own = _file(folder / "job" / "own.txt")

    await deps.ledger.jobs.update(job, artifact_path=str(own))
    assert (await api.http.get(f"/api/agent-artifact?runId={run_id}")).text == "secret"
    await deps.ledger.jobs.update(job, artifact_path=str(place(folder)))
    answer = await api.http.get(f"/api/agent-artifact?runId={run_id}")
    page = await api.http.get(f"/runs/{run_id}/artifact")

    assert (answer.status_code, page.status_code) == (404, 404)
    assert "is not among this server's files" in answer.json()["error"]
    assert "secret" not in answer.text + page.text


async def test_a_large_file_goes_out_in_pieces_and_is_closed_even_where_nobody_listens(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(3 * CHUNK_BYTES + 1))
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def gone(message: Any) -> None:
        raise OSError(message["type"])

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    file = path.open("rb")
    await Download(file, 'odd "name"', "")(scope, receive, send)
    assert max(map(len, sent)) == CHUNK_BYTES
    assert b"".join(sent) == path.read_bytes()
    assert file.closed

    file = path.open("rb")
    response = Download(file, 'odd "name"', "")
    assert response.headers["content-disposition"] == 'attachment; filename="odd__name_"'
    with pytest.raises(ClientDisconnect):
        await response(scope, receive, gone)
    assert file.closed
