"""`gpu-renter reconcile`: the ledger against the chain."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mock_vendor.accounts import dev_address
from server.buying import run_id_of
from tests.server.money_cli import MoneyCli, money_cli
from tests.support.paid_shop import AGENT, PaidShop, ServedShop, served


@pytest.fixture(scope="module")
def place() -> Iterator[ServedShop]:
    with served(PaidShop(time.time)) as place:
        yield place


@pytest.fixture
def shop(place: ServedShop) -> PaidShop:
    return place.reopen(PaidShop(time.time))


@pytest.fixture
def cli(
    mongodb_uri: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: ServedShop,
) -> Iterator[MoneyCli]:
    monkeypatch.setenv("RPC_URL", place.rpc_url)
    with money_cli(mongodb_uri, capsys, monkeypatch) as cli:
        yield cli


@pytest.mark.usefixtures("shop")
def test_ledger_and_chain_that_agree_are_said_to(cli: MoneyCli, place: ServedShop) -> None:
    cli("pay", place.thing)
    ran = cli("reconcile")
    assert ran.status == 0
    assert "agree to the micro-dollar" in ran.out
    report = cli("reconcile", "--json").json()
    assert (report["ledgerTotalMicros"], report["chainTotalMicros"]) == (250_000, 250_000)


def test_a_purchase_whose_outcome_was_unknown_is_closed(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RPC_URL")
    assert cli("pay", place.thing, "--id", "one").status == 4
    monkeypatch.setenv("RPC_URL", place.rpc_url)
    first = cli("reconcile", "--json")
    assert first.status == 0
    assert (first.json()["runs"], first.json()["stillOpen"]) == (1, [])
    assert cli("reconcile", "--json").json()["runs"] == 0
    assert cli("pay", place.thing, "--id", "one").status == 0
    assert len(shop.transfers()) == 1


def test_what_may_still_settle_is_called_unknown(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    shop.faults = {"500_before"}
    cli("pay", place.thing, "--id", "one")
    ran = cli("reconcile", "--json")
    assert ran.status == 0
    assert ran.json()["stillOpen"] == [run_id_of("one")]
    shop.chain.advance(700)
    assert cli("reconcile", "--json").json()["stillOpen"] == []
    assert cli("pay", place.thing, "--id", "one").status == 1


def test_money_that_left_without_the_ledger_is_a_mismatch(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    cli("pay", place.thing)
    tx_hash = shop.chain.transfer(AGENT, dev_address("thief"), 7)
    ran = cli("reconcile")
    assert ran.status == 1
    assert tx_hash in ran.out
    assert "do NOT agree" in ran.out
    assert [t["amountMicros"] for t in cli("reconcile", "--json").json()["unknownTransfers"]] == [7]


@pytest.mark.usefixtures("shop")
def test_a_payment_that_only_the_ledger_knows_is_a_mismatch(
    cli: MoneyCli, place: ServedShop
) -> None:
    cli("pay", place.thing)
    cli.db["payments"].update_one({}, {"$set": {"x402TxId": "0x" + "12" * 32}})
    report = cli("reconcile", "--json")
    assert report.status == 1
    assert len(report.json()["missing"]) == 1


@pytest.mark.usefixtures("shop")
def test_a_budget_that_does_not_add_up_is_a_mismatch(cli: MoneyCli, place: ServedShop) -> None:
    cli("pay", place.thing, "--id", "one")
    cli.db["runs"].update_one({}, {"$inc": {"budgetRemaining": 1}})
    report = cli("reconcile", "--json")
    assert (report.status, report.json()["unbalanced"]) == (1, [run_id_of("one")])


def test_without_the_chain_nothing_is_decided(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.faults = {"500_before"}
    cli("pay", place.thing)
    monkeypatch.setenv("RPC_URL", "http://127.0.0.1:1")
    assert cli("reconcile").status == 3
