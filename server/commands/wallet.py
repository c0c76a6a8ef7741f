"""`gpu-renter wallet`: who pays, what it holds, and the second lock at Coinbase."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from domain.errors import ConfigError, DependencyDown, InvalidInput, NotFound
from domain.money import MICROS_PER_DOLLAR, ZERO, Usd
from server.commands import wallet_policy
from server.commands.runs import UrlOption
from server.terminal.output import Exit, JsonOption, print_json, print_problem, working
from server.terminal.process import run

if TYPE_CHECKING:
    import httpx

    from domain.networks import Network
    from server.config.settings import Settings

MOST_MINTED: Final = Usd(1_000_000 * MICROS_PER_DOLLAR)
wallet = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Who pays, what it holds, and the second lock at Coinbase.",
)
wallet.add_typer(wallet_policy.policy, name="policy")

NetworkOption = Annotated[
    str | None, typer.Option(help="base, base-sepolia or local.  \\[default: NETWORK]")
]
RpcOption = Annotated[str | None, typer.Option(help="A JSON-RPC of it.  \\[default: RPC_URL]")]


@wallet.command()
def show(
    network: NetworkOption = None,
    rpc_url: RpcOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the account that pays, its USDC, and the policy at Coinbase.

    It is the server's, where one runs and neither --network nor --rpc-url says otherwise.

    [dim]$[/] gpu-renter wallet show
    """
    with working("Reading the balance"):
        told = run(_show(network, rpc_url, url))
    if as_json:
        print_json(told)
    else:
        micros = told["balanceMicros"]
        shown = told | {"balance": told["balance"] if micros is None else str(Usd(micros))}
        shown["network"] = f"{told['network']}, {told['networkName']}: {told['stakes']}"
        for name in ("kind", "network", "address", "usdc", "balance"):
            typer.echo(f"{name:<8} {shown[name]}")
        wallet_policy.print_policies(told["policies"])
    if told["problem"]:
        print_problem(told["problem"])
        raise typer.Exit(Exit.DOWN)


@wallet.command()
def init(
    out: Annotated[
        Path | None,
        typer.Option(help="Make a new key, and write it into this new file.", metavar="FILE"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the account that pays: at Coinbase (again changes nothing), or a new key with --out.

    The key is written once, for you alone (mode 0600), and never shown. Back the file up.

    [dim]$[/] gpu-renter wallet init --out wallet.env
    """
    if out is not None:
        address = _new_key(out)
        told = {"kind": "key", "address": address, "file": str(out)}
    else:
        with working("Asking Coinbase"):
            told = run(_init_cdp())
    if as_json:
        print_json(told)
        return
    typer.echo(f"{told['kind']} {told['address']}")
    if out is not None:
        typer.echo(f"Its key is in {out}: put that line into .env, and keep a copy elsewhere")


@wallet.command()
def fund(
    amount: Annotated[str, typer.Option(help="Dollars, on the local chain.")] = "100",
    network: NetworkOption = None,
    rpc_url: RpcOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put USDC on the account: minted locally, from the faucet on the test network.

    [dim]$[/] gpu-renter wallet fund --amount 50
    """
    from server.terminal.money import money_settings

    dollars = Usd.parse(amount, "--amount")
    if not ZERO < dollars <= MOST_MINTED:
        raise InvalidInput("--amount", f"it is not above 0 and at most {MOST_MINTED}")
    settings = money_settings(network, rpc_url)
    with working("Funding the account"):
        told = run(_fund(settings, dollars))
    if as_json:
        print_json(told)
        return
    for line in told["steps"]:
        typer.echo(line)


async def _show(network: str | None, rpc_url: str | None, url: str | None) -> dict[str, Any]:
    from server.terminal.client import through_server
    from server.terminal.money import money_settings

    if network is None and rpc_url is None:
        told = await through_server(url, lambda server: server.ask("/api/wallet"))
        if told is not None:
            return told
    return await _show_here(money_settings(network, rpc_url))


async def _show_here(settings: Settings) -> dict[str, Any]:
    from server.local.stack import attach
    from server.reports.reports import cdp_policies, wallet_answer
    from server.terminal.money import asking_chain
    from tools.payments.chain import ChainReader
    from tools.wire.clients import open_client

    settings = await attach(settings) or settings
    balance, policies, problem = None, [], ""
    async with open_client() as http:
        address = await _address(settings, http)
        if settings.wallet_mode == "cdp":
            policies = await cdp_policies(settings)
        chain = ChainReader(settings.network, settings.chain_url, http)
        try:
            with asking_chain(settings):
                await chain.check()
                balance = await chain.balance(address)
        except DependencyDown as error:
            problem = str(error)
    told = wallet_answer(settings, address, balance, policies, problem)
    return told.model_dump(mode="json", by_alias=True)


async def _address(settings: Settings, http: httpx.AsyncClient) -> str:
    """The account that pays; makes none. Raises NotFound where CDP has none yet."""
    from server.wiring import open_cdp, open_wallet
    from tools.payments.cdp_policy import find_account

    if settings.wallet_mode != "cdp":
        return (await open_wallet(settings, http)).address
    account = await find_account(await open_cdp(settings, http), settings.x402_wallet_id)
    if account is None:
        raise NotFound(
            f"CDP has no account called {settings.x402_wallet_id}", "Run: gpu-renter wallet init"
        )
    return account.address


def _new_key(path: Path) -> str:
    """Write a new private key into a new file, for its owner alone; the account's address."""
    import secrets

    from eth_account import Account

    account = Account.from_key(secrets.token_bytes(32))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(
            "--out", f"{path} is there already, and may hold a key", "Name a new file"
        ) from None
    except OSError as error:
        raise InvalidInput("--out", f"{path} cannot be written ({error.strerror})") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"X402_PRIVATE_KEY=0x{bytes(account.key).hex()}\n")
        file.flush()
        os.fsync(file.fileno())
    return str(account.address)


async def _init_cdp() -> dict[str, str]:
    from server.terminal.money import money_settings
    from server.wiring import open_wallet
    from tools.wire.clients import open_client

    settings = money_settings()
    if settings.wallet_mode != "cdp":
        raise ConfigError(
            "CDP_API_KEY_ID",
            "it is not set, so there is no account to make at Coinbase",
            "Set the three CDP_* variables, or make a key of your own with --out FILE",
        )
    async with open_client() as http:
        address = (await open_wallet(settings, http)).address
    return {"kind": "cdp", "address": address, "account": settings.x402_wallet_id}


async def _fund(settings: Settings, amount: Usd) -> dict[str, Any]:
    from domain.networks import BASE_SEPOLIA
    from server.local.minting import mint
    from server.local.stack import attach
    from server.terminal.money import asking_chain
    from server.wiring import open_cdp
    from tools.wire.clients import open_client

    settings = await attach(settings) or settings
    network = settings.network
    async with open_client() as http:
        address = await _address(settings, http)
        told: dict[str, Any] = {"network": network.caip2, "address": address, "txHash": None}
        if network.is_local:
            with asking_chain(settings):
                tx_hash = await mint(settings, http, address, amount)
            return told | {"txHash": tx_hash, "steps": [f"Minted {amount} to {address}: {tx_hash}"]}
        if network == BASE_SEPOLIA and settings.wallet_mode == "cdp":
            tx_hash = await (await open_cdp(settings, http)).faucet(address)
            link = network.explorer_link(tx_hash)
            return told | {"txHash": tx_hash, "steps": [f"The faucet sends 1 USDC: {link}"]}
    return told | {"steps": _steps(network, address, testnet=network == BASE_SEPOLIA)}


def _steps(network: Network, address: str, *, testnet: bool) -> list[str]:
    if testnet:
        return [
            "Test USDC is free, and worth nothing:",
            "1. Open https://faucet.circle.com and choose USDC on Base Sepolia",
            f"2. Have it sent to {address}",
            "3. See it come: gpu-renter wallet show",
        ]
    return [
        f"This is real money, and nothing here moves it for you. To pay from {address}:",
        f"1. Send USDC on {network.name} (contract {network.usdc}), from an exchange or a wallet",
        "2. Send little first: what the account holds is the most that can ever be lost",
        "3. See it come: gpu-renter wallet show",
    ]
