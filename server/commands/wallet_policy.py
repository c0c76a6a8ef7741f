"""`gpu-renter wallet policy`: the second lock at Coinbase, outside our process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from domain.errors import InvalidInput
from domain.money import Usd
from server.terminal.output import Exit, JsonOption, print_json, print_problem, working
from server.terminal.process import run

if TYPE_CHECKING:
    from server.config.settings import Settings
    from tools.payments.cdp_policy import Installed, Lock

KEY_NOTE: Final = (
    "Whoever holds this CDP API key can change the policy again (CDP asks for no wallet secret "
    "there), so let the key that the agent runs with manage no policies, where your plan allows it"
)

policy = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The second lock, outside our process: what Coinbase refuses to sign.",
)


@policy.command("show")
def show_policy(as_json: JsonOption = False) -> None:
    """Show the policies in force on the account at Coinbase.

    [dim]$[/] gpu-renter wallet policy show
    """
    from server.reports.reports import cdp_policies
    from server.terminal.money import money_settings

    settings = money_settings()
    with working("Asking Coinbase"):
        found = run(cdp_policies(settings))
    if as_json:
        print_json(found)
    else:
        print_policies(found)


@policy.command()
def install(
    payees: Annotated[
        list[str] | None,
        typer.Option("--payee", help="Let this address be paid too; may be repeated."),
    ] = None,
    cap: Annotated[
        str | None, typer.Option(help="Dollars a payment.  \\[default: MAX_PAYMENT_USD]")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of another policy of the account.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have Coinbase sign payments to registered vendors up to MAX_PAYMENT_USD, and nothing else.

    Run it again when vendors or limits change; where nothing has changed, it changes nothing.

    [dim]$[/] gpu-renter wallet policy install
    """
    from server.terminal.money import money_settings, payee

    settings = money_settings()
    more = [payee("--payee", address) for address in payees or []]
    most = Usd.parse(cap, "--cap") if cap is not None else settings.max_payment_usd
    if most > settings.max_payment_usd:
        raise InvalidInput(
            "--cap", f"it is above MAX_PAYMENT_USD, {settings.max_payment_usd}", "Give less"
        )
    with working("Installing the policy at Coinbase"):
        lock, installed, overriding = run(_install(settings, most, more, replace))
    told = {
        "policyId": installed.policy.id,
        "change": installed.change,
        "attached": installed.attached,
        "contract": lock.contract,
        "capMicros": lock.cap.micros,
        "payees": list(lock.payees),
        "overriddenBy": overriding,
    }
    if as_json:
        print_json(told)
    else:
        typer.echo(f"Policy {installed.policy.id}: {installed.change}")
        for line in installed.policy.summary():
            typer.echo(f"  {line}")
        if not lock.payees:
            typer.echo("No payee is registered, so nothing can be signed: gpu-renter vendors add")
        typer.echo(KEY_NOTE, err=True)
    if overriding:
        print_problem(f"The project's own policy goes first, and accepts {', '.join(overriding)}")
        raise typer.Exit(Exit.FAILED)


def print_policies(found: list[dict[str, Any]]) -> None:
    for one in found:
        typer.echo(f"policy   {one['id']} ({one['scope']}: {one['description']})")
        for line in one["rules"]:
            typer.echo(f"         {line}")
    if not found:
        typer.echo("policy   none: only this program's own limits hold")


async def _install(
    settings: Settings, cap: Usd, more: list[str], replace: bool
) -> tuple[Lock, Installed, list[str]]:
    from server.terminal.money import open_money
    from server.wiring import open_cdp
    from tools.payments.cdp_policy import Lock, find_account, overriding, policies_of
    from tools.payments.cdp_policy import install as install_lock

    async with open_money(settings) as opened:
        vendors = await opened.ledger.vendors.all()
        payees = {vendor.pay_to for vendor in vendors if vendor.pay_to} | set(more)
        lock = Lock(settings.network.usdc, cap, tuple(sorted(payees)))
        api = await open_cdp(settings, opened.http)
        installed = await install_lock(api, settings.x402_wallet_id, lock, replace=replace)
        account = await find_account(api, settings.x402_wallet_id)
        policies = await policies_of(api, account) if account else []
        return lock, installed, overriding(policies)
