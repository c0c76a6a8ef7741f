"""`GET /api/agent-artifact`: the file that a run's job has made, to whoever may read the run."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from domain.errors import NotFound
from graph.deps import Deps
from ledger.run import Run
from server.access import WhoAsks
from server.api.documented import of_get
from server.api.exact_json import ExactRoute
from server.api.requests import HELP, RunId
from server.keeper import Keeper
from server.middleware.security_headers import NOTHING

CHUNK_BYTES: Final = 256 * 1024
BYTES: Final = "application/octet-stream"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    HTTPStatus.OK: {
        "description": "The file's bytes. Its sha256 is in ETag, as in the job's artifactSha256.",
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
    }
}


def artifact_routes(keeper: Keeper) -> APIRouter:
    """The address of the artifacts."""
    router = APIRouter(prefix="/api", route_class=ExactRoute, tags=["agent"])

    @router.get(
        "/agent-artifact", response_class=StreamingResponse, responses={**_FILE, **of_get(404)}
    )
    async def agent_artifact(
        who: WhoAsks, run_id: Annotated[RunId, Query(alias="runId", description=HELP["runId"])]
    ) -> StreamingResponse:
        """The file that the run's job has made, as this server has downloaded it."""
        deps = (await keeper.services()).deps
        return await artifact_of(deps, who.check_sees(await deps.ledger.runs.get(run_id)))

    return router


async def artifact_of(deps: Deps, run: Run) -> StreamingResponse:
    """The run's artifact as a download. Raises NotFound if there is none on this server."""
    jobs = await deps.ledger.jobs.of_run(run)
    done = next((job for job in jobs if job.artifact_path), None)
    if done is None or done.artifact_path is None:
        raise NotFound(
            f"Run {run.id} has no artifact",
            "There is one once a job has completed and its result was downloaded",
        )
    folder, path = deps.artifacts / run.id, Path(done.artifact_path)
    file = await asyncio.to_thread(open_inside, folder, path)
    if file is None:
        raise NotFound(
            f"The artifact of run {run.id} is not among this server's files",
            "The worker that downloaded it has it, at the job's artifactPath; or it was removed",
        )
    return Download(file, path.name, done.artifact_sha256 or "")


def open_inside(folder: Path, path: Path) -> BinaryIO | None:
    """The file at `path`, open, where it truly lies in `folder`, whatever links lead there."""
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(folder.resolve(strict=True)):
            return None
        # Not waiting: what is put in its place meanwhile may be a pipe.
        fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, RuntimeError, ValueError):  # none there, a circle of links, no path at all
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return os.fdopen(fd, "rb")
    os.close(fd)
    return None


class Download(StreamingResponse):
    """An open file on its way out, a piece at a time; closed however that ends."""

    def __init__(self, file: BinaryIO, name: str, sha256: str) -> None:
        harmless = _UNSAFE.sub("_", name)
        headers = {
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "Content-Disposition": f'attachment; filename="{harmless}"',
            "Content-Security-Policy": NOTHING,
            "Cache-Control": "no-store",
            **({"ETag": f'"{sha256}"'} if sha256 else {}),
        }
        super().__init__(_pieces(file), headers=headers, media_type=BYTES)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK_BYTES):
        yield piece
