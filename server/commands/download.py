"""`download`: a run's result, from the server that has it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.errors import InvalidInput, RenterError
from server.commands.runs import RunArgument, UrlOption
from server.terminal.output import JsonOption, print_json, working
from server.terminal.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Downloaded:
    file: str
    bytes: int
    sha256: str
    verified: bool
    """Whether it has the hash that the run's job was recorded with; False where none was."""


def download(
    run_id: RunArgument,
    out: Annotated[
        str,
        typer.Option(
            help="The file to write, or a folder to put it into.  \\[default: this folder]",
            metavar="PATH",
            show_default=False,
        ),
    ] = "",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a run's result, and check that it is what its job was recorded with.

    Writes over no file that is there.

    [dim]$[/] gpu-renter download 66a1f2c9
    [dim]$[/] gpu-renter download 66a1f2c9 --out models/
    """
    with working("Downloading"):
        told = run(_download(run_id, out, url))
    if as_json:
        print_json(asdict(told))
        return
    typer.echo(f"{told.file}, {told.bytes:,} bytes")
    checked = "as recorded with the run" if told.verified else "not recorded with the run"
    typer.echo(f"sha256 {told.sha256}, {checked}")


async def _download(given: str, out: str, url: str | None) -> Downloaded:
    from server.terminal.client import ServerClient

    async with ServerClient(url) as server:
        run_id = await server.whole_id(given)
        recorded = _recorded(await server.status(run_id))
        async with server.artifact(run_id) as (name, pieces):
            target = _target(out, name)
            size, sha256 = await _write(pieces, target, recorded)
    return Downloaded(str(target), size, sha256, bool(recorded))


def _target(out: str, name: str) -> Path:
    """The file to write. What ends like a folder is one, and is made where there is none."""
    target = Path(out)
    if out.endswith(os.sep):
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(target, error) from None
    if target.is_dir():
        target /= name
    if target.exists():
        raise InvalidInput("--out", f"{target} is there already", "Name a new file")
    return target


def _recorded(status: dict[str, Any]) -> str:
    """The hash of the result, as the ledger has it; empty where it has none."""
    hashes = (job.get("artifactSha256") for job in status["jobs"] if job.get("artifactPath"))
    return str(next(hashes, None) or "")


async def _write(pieces: AsyncIterator[bytes], target: Path, recorded: str) -> tuple[int, str]:
    """Write the bytes into `target`, which is there only once they are whole and checked."""
    size, digest = 0, hashlib.sha256()
    try:
        handle, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            async for piece in pieces:
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        if recorded and digest.hexdigest() != recorded:
            raise RenterError(
                f"What came is not the run's result: its sha256 is {digest.hexdigest()}, and "
                f"{recorded} was recorded",
                "Nothing was written. Try again; if it stays so, the server's file was changed",
            )
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, target)
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)
    return size, digest.hexdigest()


def _umask() -> int:
    """What this process takes from the rights of new files. Reading it means setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _unwritable(target: Path, error: OSError) -> InvalidInput:
    return InvalidInput("--out", f"{target} cannot be written ({error.strerror})", "Name another")
