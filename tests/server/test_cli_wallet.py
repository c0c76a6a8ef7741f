"""`gpu-renter wallet`: who pays, what it holds, its funding, and the lock at Coinbase."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from domain.money import Usd
from domain.networks import BASE_SEPOLIA
from ledger.ledger import Ledger
from mock_vendor.accounts import dev_address
from tests.server.money_cli import MoneyCli, money_cli
from tests.support.builders import NOON, a_vendor
from tests.support.served import free_ports
from tests.tools.cdp_service import CdpService, served

KEY = "0x" + "11" * 32
PAYEE = dev_address("gpu_vendor_1")


@pytest.fixture
def cli(
    mongodb_uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MoneyCli]:
    with money_cli(mongodb_uri, capsys, monkeypatch) as cli:
        yield cli


@pytest.fixture
def coinbase(monkeypatch: pytest.MonkeyPatch) -> Iterator[CdpService]:
    """A CDP wallet on Base Sepolia."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports websockets.legacy
        import cdp.auth.utils.jwt  # noqa: F401
    service = CdpService()
    with served(service) as base_path:
        monkeypatch.setenv("NETWORK", "base-sepolia")
        monkeypatch.setenv("RPC_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("CDP_BASE_PATH", base_path)
        monkeypatch.setenv("CDP_API_KEY_ID", service.credentials.api_key_id)
        secrets = service.credentials
        monkeypatch.setenv("CDP_API_KEY_SECRET", secrets.api_key_secret.get_secret_value())
        monkeypatch.setenv("CDP_WALLET_SECRET", secrets.wallet_secret.get_secret_value())
        monkeypatch.setenv("MAX_PAYMENT_USD", "2.50")
        yield service


def test_the_local_wallet_and_its_dollars_are_shown(cli: MoneyCli, chain_url: str) -> None:
    shown = cli("wallet", "show", "--rpc-url", chain_url, "--json")
    told = shown.json()
    assert shown.status == 0
    assert (told["kind"], told["network"]) == ("local", "eip155:31337")
    assert told["address"] == dev_address("agent")
    assert told["balanceMicros"] > 0
    assert told["address"] in cli("wallet", "show", "--rpc-url", chain_url).out


def test_the_address_is_shown_where_the_chain_is_silent(cli: MoneyCli) -> None:
    ran = cli("wallet", "show", "--rpc-url", "http://127.0.0.1:1")
    assert ran.status == 3
    assert dev_address("agent") in ran.out
    assert "unknown" in ran.out


@pytest.mark.parametrize("command", [("wallet", "show"), ("wallet", "fund"), ("reconcile",)])
def test_where_no_local_chain_runs_the_remedy_is_to_start_it(
    cli: MoneyCli, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAIN_PORT", str(free_ports(1)[0]))
    ran = cli(*command)
    assert ran.status == 3
    assert "There is no local chain at 127.0.0.1:" in ran.err
    assert "Run: gpu-renter serve" in ran.err


def test_local_dollars_are_minted_to_whoever_pays(
    cli: MoneyCli, chain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_PRIVATE_KEY", "0x" + os.urandom(32).hex())
    for total in (50, 100):
        ran = cli("wallet", "fund", "--amount", "50", "--rpc-url", chain_url)
        assert ran.status == 0
        told = cli("wallet", "show", "--rpc-url", chain_url, "--json").json()
        assert (told["kind"], told["balanceMicros"]) == ("key", Usd.parse(total).micros)


@pytest.mark.parametrize("amount", ["0", "-1", "1e9", "2000000"])
def test_an_absurd_amount_is_not_minted(cli: MoneyCli, amount: str) -> None:
    assert cli("wallet", "fund", "--amount", amount).status == 2


def test_a_new_key_is_written_for_its_owner_alone_and_never_shown(
    cli: MoneyCli, tmp_path: Path
) -> None:
    file = tmp_path / "wallet.env"
    ran = cli("wallet", "init", "--out", str(file))
    name, _, key = file.read_text().strip().partition("=")
    assert (ran.status, name) == (0, "X402_PRIVATE_KEY")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Account.from_key(key).address in ran.out
    assert key not in ran.out + ran.err
    assert key[2:] not in ran.out + ran.err


def test_a_key_is_never_overwritten(cli: MoneyCli, tmp_path: Path) -> None:
    file = tmp_path / "wallet.env"
    cli("wallet", "init", "--out", str(file))
    before = file.read_text()
    assert cli("wallet", "init", "--out", str(file)).status == 2
    assert file.read_text() == before


def test_init_needs_coinbase_or_a_file(cli: MoneyCli) -> None:
    ran = cli("wallet", "init")
    assert ran.status == 2
    assert "--out" in ran.err


def test_a_test_network_key_is_told_where_the_faucet_is(
    cli: MoneyCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_PRIVATE_KEY", KEY)
    ran = cli("wallet", "fund", "--network", "base-sepolia")
    assert ran.status == 0
    assert "faucet.circle.com" in ran.out
    assert Account.from_key(KEY).address in ran.out


def test_real_money_is_never_moved(cli: MoneyCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X402_PRIVATE_KEY", KEY)
    ran = cli("wallet", "fund", "--network", "base", "--json")
    assert (ran.status, ran.json()["txHash"]) == (0, None)
    assert "real money" in ran.out


def test_another_network_does_not_inherit_the_rpc(
    cli: MoneyCli, chain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.terminal.money import money_settings

    monkeypatch.setenv("RPC_URL", chain_url)
    monkeypatch.setenv("X402_PRIVATE_KEY", KEY)
    assert money_settings().chain_url == chain_url
    assert money_settings("base-sepolia").chain_url == BASE_SEPOLIA.default_rpc_url
    assert cli("wallet", "fund", "--network", "base-sepolia").status == 0


def test_the_account_at_coinbase_is_made_once(cli: MoneyCli, coinbase: CdpService) -> None:
    assert cli("wallet", "show").status == 4
    first, second = (cli("wallet", "init", "--json").json() for _ in range(2))
    assert first == second
    assert first["address"] == coinbase.accounts["agentic-gpu-renter"].address
    assert [c for c in coinbase.calls if c[0] == "POST"] == [("POST", "/v2/evm/accounts")]


def test_the_faucet_is_asked_for_test_dollars(cli: MoneyCli, coinbase: CdpService) -> None:
    address = cli("wallet", "init", "--json").json()["address"]
    ran = cli("wallet", "fund", "--json")
    assert ran.status == 0
    assert coinbase.funded == [{"address": address, "network": "base-sepolia", "token": "usdc"}]
    assert ran.json()["txHash"] == "0x" + "fa" * 32


def test_the_lock_is_made_of_the_registry_and_the_limit(
    cli: MoneyCli, coinbase: CdpService
) -> None:
    async def register(ledger: Ledger) -> None:
        await ledger.vendors.put(a_vendor("v1", pay_to=PAYEE), NOON)
        await ledger.vendors.put(a_vendor("v2", pay_to=None), NOON)

    cli.with_ledger(register)
    cli("wallet", "init")
    extra = dev_address("one more")
    ran = cli("wallet", "policy", "install", "--payee", extra)
    assert ran.status == 0
    assert "manage no policies" in ran.err
    [policy] = coinbase.policies.values()
    conditions = policy["rules"][0]["criteria"][1]["conditions"]
    assert conditions[0]["value"] == "2500000"
    assert set(conditions[1]["addresses"]) == {PAYEE, extra}
    assert policy["rules"][0]["criteria"][0]["addresses"] == [BASE_SEPOLIA.usdc]
    again = cli("wallet", "policy", "install", "--payee", extra, "--json").json()
    assert (again["change"], again["attached"]) == ("unchanged", False)
    [shown] = cli("wallet", "policy", "show", "--json").json()
    assert shown["ours"]
    assert f"<= {Usd.parse('2.5')}" in shown["rules"][0]
    assert "reject signEvmHash" in shown["rules"]
    assert shown == cli("wallet", "show", "--json").json()["policies"][0]


def test_a_cap_above_our_own_is_no_lock(cli: MoneyCli, coinbase: CdpService) -> None:
    cli("wallet", "init")
    assert cli("wallet", "policy", "install", "--cap", "2.51").status == 2
    assert coinbase.policies == {}


def test_a_project_policy_that_undoes_the_lock_fails_the_installation(
    cli: MoneyCli, coinbase: CdpService
) -> None:
    cli("wallet", "init")
    rules = [{"action": "accept", "operation": "signEvmHash"}]
    coinbase.policies["p"] = {"id": "p", "scope": "project", "rules": rules}
    ran = cli("wallet", "policy", "install")
    assert ran.status == 1
    assert "accepts signEvmHash" in ran.err
    assert "No payee is registered" in ran.out


def test_only_coinbase_has_policies(cli: MoneyCli) -> None:
    for command in ("show", "install"):
        ran = cli("wallet", "policy", command)
        assert ran.status == 2
        assert "CDP_API_KEY_ID" in ran.err
