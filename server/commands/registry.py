"""`gpu-renter vendors`: who may be rented from, and at which address they are paid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.errors import ConfigError, Conflict, InvalidInput
from domain.money import Usd
from server.commands.runs import UrlOption
from server.terminal.output import JsonOption, print_json, tell, working
from server.terminal.process import run

if TYPE_CHECKING:
    from domain.quotes import Vendor
    from ledger.vendors import Vendors
    from server.config.settings import Settings

vendors = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The registry: who may be rented from, and where they are paid.",
)


@vendors.command("list")
def list_(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show the registered vendors.

    [dim]$[/] gpu-renter vendors list
    """
    with working("Reading the registry"):
        found = run(_list(url))
    _print(found, as_json)


@vendors.command()
def seed(
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Where the mock vendor answers, if it isn't on this machine.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register the two vendors that the local mock vendor serves, or put them back.

    [dim]$[/] gpu-renter vendors seed
    [dim]$[/] gpu-renter vendors seed --endpoint http://vendor:4001
    """
    if endpoint is not None:
        from server.terminal.vendor_entry import checked_endpoint

        endpoint = checked_endpoint(endpoint, local=True)
    with working("Registering"):
        found = run(_seed(endpoint))
    _print(_views(found), as_json)


@vendors.command()
def add(
    vendor_id: Annotated[str, typer.Option("--id", help="The vendor's id for us (x-vendor-id).")],
    endpoint: Annotated[str, typer.Option(help="The base address of its API.")],
    price_per_hour: Annotated[str, typer.Option(help="List price in dollars, to compare by.")],
    gpu: Annotated[list[str], typer.Option(help="A GPU type it has. Repeat it for more.")],
    name: Annotated[str, typer.Option(help="A name to show.  \\[default: the id]")] = "",
    reliability: Annotated[
        float, typer.Option(min=0, max=1, help="Share of jobs expected to complete.")
    ] = 0.9,
    pay_to: Annotated[
        str | None,
        typer.Option(
            help="Its checksummed address, the only one that may be paid. Leave it out for a "
            "vendor that is billed outside x402."
        ),
    ] = None,
    secret_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The environment variable with the secret that it gave you, GPU_VENDOR_SECRET_… "
            "The name is stored, the value never.",
            show_default=False,
        ),
    ] = None,
    no_secret: Annotated[
        bool, typer.Option("--no-secret", help="It wants no secret, and is shown none.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change what is registered under this id.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Register a vendor. Ask it for --pay-to over a channel that you trust.

    Each vendor has a secret of its own: with it the agent orders and cancels there, and the vendor
    signs its callbacks.

    [dim]$[/] gpu-renter vendors add --id acme --name "Acme GPU" \\
        --endpoint https://gpu.acme.example --price-per-hour 1.20 \\
        --gpu A100 --gpu H100 --pay-to 0x… --secret-env GPU_VENDOR_SECRET_ACME
    """
    from server.config.settings import Settings
    from server.terminal.vendor_entry import vendor_entry

    settings = Settings.load()
    vendor = vendor_entry(
        vendor_id=vendor_id,
        name=name or vendor_id,
        endpoint=endpoint,
        price_per_hour=price_per_hour,
        reliability=reliability,
        gpu_types=gpu,
        pay_to=pay_to,
        secret_env=secret_env,
        no_secret=no_secret,
        local=settings.network.is_local,
    )
    with working("Registering"):
        added = run(_add(settings, vendor, replace))
    _print(_views([added]), as_json)
    if added.secret_env and added.secret_env not in settings.vendor_secret_values():
        typer.echo(
            f"{added.secret_env} is not set here. Set it where the agent runs, in the environment "
            f"or .env, and start the agent again: until then {added.vendor_id} is not asked",
            err=True,
        )


@vendors.command()
def remove(
    vendor_id: Annotated[str, typer.Argument(help="Its id.", metavar="ID")],
    as_json: JsonOption = False,
) -> None:
    """Take a vendor out of the registry. Jobs that already run there are followed to their end.

    [dim]$[/] gpu-renter vendors remove acme
    """
    with working("Removing"):
        run(_remove(vendor_id))
    tell({"removed": vendor_id}, f"Removed {vendor_id}", as_json)


async def _list(url: str | None) -> list[dict[str, Any]]:
    """By a server, which has the registry open already; else out of the store opened here."""
    from server.config.settings import Settings
    from server.terminal.client import through_server

    told = await through_server(url, lambda server: server.ask("/api/vendors"))
    if told is not None:
        return list(told["vendors"])
    async with _registry(Settings.load()) as (registry, _):
        return _views(await registry.all())


async def _seed(endpoint: str | None) -> list[Vendor]:
    from server.config.settings import Settings
    from server.local.seed import seed

    settings = Settings.load()
    if not settings.network.is_local:
        raise ConfigError(
            "NETWORK",
            f"it is {settings.network.name}, and the seeded vendors live on the local chain alone",
            "Register real vendors with gpu-renter vendors add",
        )
    async with _registry(settings) as (registry, reached):
        return await seed(registry, reached, datetime.now(UTC), endpoint)


async def _add(settings: Settings, vendor: Vendor, replace: bool) -> Vendor:
    if not settings.network.is_local:
        await _check_public(vendor.endpoint)
    async with _registry(settings) as (registry, _):
        registered = await registry.all()
        if not replace and vendor.vendor_id in (known.vendor_id for known in registered):
            raise Conflict(
                f"Vendor {vendor.vendor_id} is registered already", "Change it with --replace"
            )
        _check_not_shared(vendor, registered)
        await registry.put(vendor, datetime.now(UTC))
        return await registry.get(vendor.vendor_id)


def _check_not_shared(vendor: Vendor, registered: list[Vendor]) -> None:
    """Raise Conflict where another vendor, elsewhere, is shown the same secret: each could order,
    cancel and call back in the name of the other.
    """
    for known in registered:
        shared = vendor.secret_env is not None and known.secret_env == vendor.secret_env
        other = known.vendor_id != vendor.vendor_id and known.endpoint != vendor.endpoint
        if shared and other:
            raise Conflict(
                f"{vendor.secret_env} is the secret of {known.vendor_id}, which is elsewhere",
                "Give each vendor a secret, and a variable, of its own",
            )


async def _check_public(endpoint: str) -> None:
    """Raise InvalidInput for an address of this machine or network, as it is resolved now.

    Each connection is checked anew; this only says it early. A name that cannot be resolved
    passes here, and is refused there.
    """
    from urllib.parse import urlsplit

    from tools.wire.public_hosts import NotPublic, public_addresses

    url = urlsplit(endpoint)
    try:
        await public_addresses(url.hostname or "", url.port or 443)
    except NotPublic as refused:
        raise InvalidInput(
            "--endpoint", str(refused), "A vendor outside the local network has a public address"
        ) from None
    except OSError:
        pass


async def _remove(vendor_id: str) -> None:
    from server.config.settings import Settings

    async with _registry(Settings.load()) as (registry, _):
        await registry.remove(vendor_id)


@asynccontextmanager
async def _registry(settings: Settings) -> AsyncIterator[tuple[Vendors, Settings]]:
    """The registry in the store that `open_store` finds, and where things answer."""
    from ledger.vendors import Vendors
    from server.local.stack import open_store

    async with open_store(settings) as (store, reached):
        yield Vendors(store), reached


def _views(found: list[Vendor]) -> list[dict[str, Any]]:
    from server.reports.reports import vendor_view

    now = datetime.now(UTC)
    return [vendor_view(vendor, now).model_dump(mode="json", by_alias=True) for vendor in found]


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("No vendor is registered. Add one: gpu-renter vendors seed, or vendors add")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for vendor in found:
        price, pay_to = Usd.parse(vendor["basePricePerHour"]), vendor["payTo"]
        secret = vendor["secretEnv"]
        facts = f"{price} an hour · {vendor['reliabilityScore']:.0%} reliable"
        console.print(
            Text.assemble((vendor["vendorId"], "bold"), f"  {vendor['name']}\n"),
            Text(f"  {facts} · {', '.join(vendor['supportedGpuTypes'])}\n"),
            Text(f"  {vendor['endpoint']}\n", style="dim"),
            Text(f"  {f'paid at {pay_to}' if pay_to else 'billed outside x402'}\n"),
            Text(f"  {f'secret in {secret}' if secret else 'no secret'}"),
            *(Text(f"\n  {line}") for line in vendor["history"]),
            sep="",
            soft_wrap=True,
        )
