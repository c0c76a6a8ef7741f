"""`gpu-renter vendors`: who may be rented from, and at which address they are paid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.errors import ConfigError, Conflict, NotFound
from server.commands.output import JsonOption, print_json
from server.commands.process import run

if TYPE_CHECKING:
    from domain.quotes import Vendor
    from graph.settings import Settings
    from ledger.vendors import Vendors

vendors = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The registry: who may be rented from, and where they are paid.",
)


@vendors.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Show the registered vendors.

    [dim]$[/] gpu-renter vendors list
    """
    _print(run(_list()), as_json)


@vendors.command()
def seed(as_json: JsonOption = False) -> None:
    """Register the two vendors that the local mock vendor serves, or put them back.

    [dim]$[/] gpu-renter vendors seed
    """
    _print(run(_seed()), as_json)


@vendors.command()
def add(
    vendor_id: Annotated[str, typer.Option("--id", help="The vendor's id for us (x-vendor-id).")],
    endpoint: Annotated[str, typer.Option(help="The base address of its API.")],
    price_per_hour: Annotated[str, typer.Option(help="List price in dollars, to compare by.")],
    gpu: Annotated[list[str], typer.Option(help="A GPU type it has. Repeat it for more.")],
    name: Annotated[str, typer.Option(help="A name to show.  [default: the id]")] = "",
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
    replace: Annotated[
        bool, typer.Option("--replace", help="Change what is registered under this id.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Register a vendor. Ask it for --pay-to over a channel that you trust.

    [dim]$[/] gpu-renter vendors add --id acme --name "Acme GPU" --endpoint https://gpu.acme.example
    --price-per-hour 1.20 --gpu A100 --gpu H100 --pay-to 0x…
    """
    from graph.settings import Settings
    from server.commands.vendor_entry import vendor_entry

    settings = Settings.load()
    vendor = vendor_entry(
        vendor_id=vendor_id,
        name=name or vendor_id,
        endpoint=endpoint,
        price_per_hour=price_per_hour,
        reliability=reliability,
        gpu_types=gpu,
        pay_to=pay_to,
        local=settings.network.is_local,
    )
    _print([run(_add(settings, vendor, replace))], as_json)


@vendors.command()
def remove(
    vendor_id: Annotated[str, typer.Argument(help="Its id.", metavar="ID")],
    as_json: JsonOption = False,
) -> None:
    """Take a vendor out of the registry. Jobs that already run there are followed to their end.

    [dim]$[/] gpu-renter vendors remove acme
    """
    run(_remove(vendor_id))
    if as_json:
        print_json({"removed": vendor_id})
    else:
        typer.echo(f"Removed {vendor_id}")


async def _list() -> list[Vendor]:
    from graph.settings import Settings

    async with _registry(Settings.load()) as (registry, _):
        return await registry.all()


async def _seed() -> list[Vendor]:
    from graph.settings import Settings
    from server.seed import seed

    settings = Settings.load()
    if not settings.network.is_local:
        raise ConfigError(
            "NETWORK",
            f"it is {settings.network.name}, and the seeded vendors live on the local chain alone",
            "Register real vendors with gpu-renter vendors add",
        )
    async with _registry(settings) as (registry, reached):
        return await seed(registry, reached, datetime.now(UTC))


async def _add(settings: Settings, vendor: Vendor, replace: bool) -> Vendor:
    async with _registry(settings) as (registry, _):
        if not replace:
            try:
                await registry.get(vendor.vendor_id)
            except NotFound:
                pass
            else:
                raise Conflict(
                    f"Vendor {vendor.vendor_id} is registered already", "Change it with --replace"
                )
        await registry.put(vendor, datetime.now(UTC))
        return await registry.get(vendor.vendor_id)


async def _remove(vendor_id: str) -> None:
    from graph.settings import Settings

    async with _registry(Settings.load()) as (registry, _):
        await registry.remove(vendor_id)


@asynccontextmanager
async def _registry(settings: Settings) -> AsyncIterator[tuple[Vendors, Settings]]:
    """The registry and where things answer: of a running `serve`, of MONGODB_URI, or embedded."""
    from ledger.embedded import EmbeddedMongo
    from ledger.store import Store
    from ledger.vendors import Vendors
    from server.local import attach

    async with AsyncExitStack() as stack:
        reached = await attach(settings) or settings
        uri = reached.mongodb_uri.get_secret_value() if reached.mongodb_uri else None
        if uri is None:
            mongo = EmbeddedMongo(settings.data_dir, grace_s=0)
            await stack.enter_async_context(mongo)
            uri = mongo.uri
        store = Store.open(uri, settings.mongodb_db_name)
        stack.push_async_callback(store.close)
        yield Vendors(store), reached


def _print(found: list[Vendor], as_json: bool) -> None:
    if as_json:
        print_json([_as_json(vendor) for vendor in found])
        return
    if not found:
        typer.echo("No vendor is registered. Add one: gpu-renter vendors seed, or vendors add")
        return
    width = max(len(vendor.vendor_id) for vendor in found)
    for vendor in found:
        facts = (
            f"{vendor.price_per_hour}/h  {vendor.reliability:.0%}  {', '.join(vendor.gpu_types)}"
        )
        typer.echo(f"{vendor.vendor_id:<{width}}  {vendor.name}  {facts}")
        paid = f"paid at {vendor.pay_to}" if vendor.pay_to else "billed outside x402"
        typer.echo(f"{'':<{width}}  {vendor.endpoint}  {paid}")


def _as_json(vendor: Vendor) -> dict[str, Any]:
    """A vendor in the seed document's shape."""
    return {
        "vendorId": vendor.vendor_id,
        "name": vendor.name,
        "endpoint": vendor.endpoint,
        "basePricePerHour": vendor.price_per_hour.dollars(),
        "reliabilityScore": vendor.reliability,
        "supportedGpuTypes": list(vendor.gpu_types),
        "payTo": vendor.pay_to,
    }
