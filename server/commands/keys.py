"""`gpu-renter keys`: who may ask a server that others reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from domain.errors import InvalidInput
from server.terminal.output import JsonOption, print_json, tell
from server.terminal.process import run

if TYPE_CHECKING:
    from ledger.keys import KeyRecord, Keys
    from server.access import Scope

T = TypeVar("T")
LONGEST_OWNER = 128
SCOPES = ("start", "tick", "read", "approve", "admin")

keys = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="API keys: who may ask a server that others reach.",
)


@keys.command()
def create(
    scope: Annotated[
        list[str],
        typer.Option(help="start, tick, read, approve or admin. Repeat it for more."),
    ],
    owner: Annotated[
        str | None,
        typer.Option(
            help="The userId that the key speaks for: it reaches that user's runs alone. Only "
            "--scope admin, or --scope read alone, may do without."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once; only its SHA-256 is kept.

    [dim]$[/] gpu-renter keys create --owner u1 \\
        --scope start --scope tick --scope read --scope approve
    """
    from server.access import new_key
    from server.wiring import now

    scopes = [_scope(name) for name in dict.fromkeys(scope)]
    if owner is not None:
        owner = owner.strip()
        if not owner or len(owner) > LONGEST_OWNER or not owner.isprintable():
            raise InvalidInput("--owner", f"it is not 1 to {LONGEST_OWNER} printable characters")
    made = new_key(owner, scopes, now())
    run(_with_keys(lambda kept: kept.add(made.record)))
    if as_json:
        print_json({**_as_json(made.record), "key": made.secret})
        return
    typer.echo(made.secret)
    typer.echo(
        f"Key {made.record.id} for {_whom(made.record)} may: {', '.join(made.record.scopes)}. "
        "It is not shown again",
        err=True,
    )
    typer.echo("Send it as Authorization: Bearer KEY, or set RENTER_API_KEY", err=True)


@keys.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Show all keys, the revoked ones too; never the keys themselves.

    [dim]$[/] gpu-renter keys list
    """
    found = run(_with_keys(lambda kept: kept.all()))
    if as_json:
        print_json([_as_json(record) for record in found])
        return
    if not found:
        typer.echo("There is no key. Make one: gpu-renter keys create --help")
    for record in found:
        state = f"revoked {record.revoked_at:%Y-%m-%d}" if record.revoked_at else "in force"
        scopes = ", ".join(record.scopes)
        made = f"made {record.created_at:%Y-%m-%d}"
        typer.echo(f"{record.id}  {_whom(record)}  {scopes}  {made}  {state}")


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Its id, the part after gr_.", metavar="ID")],
    as_json: JsonOption = False,
) -> None:
    """End a key. The next request with it is refused.

    [dim]$[/] gpu-renter keys revoke iea2bbkqoxyq
    """
    from server.wiring import now

    run(_with_keys(lambda kept: kept.revoke(key_id, now())))
    tell({"revoked": key_id}, f"Revoked {key_id}", as_json)


def _scope(name: str) -> Scope:
    from server.access import Scope

    if name not in SCOPES:
        raise InvalidInput("--scope", f"{name[:20]!r} is none of {', '.join(SCOPES)}")
    return Scope(name)


async def _with_keys(ask: Callable[[Keys], Awaitable[T]]) -> T:
    """What `ask` gets of the keys in the store that `open_store` finds."""
    from ledger.keys import Keys
    from server.config.settings import Settings
    from server.local.stack import open_store

    async with open_store(Settings.load()) as (store, _):
        return await ask(Keys(store))


def _whom(record: KeyRecord) -> str:
    return record.owner or "everybody's runs"


def _as_json(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "owner": record.owner,
        "scopes": list(record.scopes),
        "createdAt": record.created_at.isoformat(),
        "revokedAt": record.revoked_at.isoformat() if record.revoked_at else None,
    }
