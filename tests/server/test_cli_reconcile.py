"""`gpu-renter reconcile`: the ledger against the chain."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from domain.ids import purchase_id_of
from mock_vendor.accounts import dev_address
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
    assert ran.json()["stillOpen"] == [purchase_id_of("one")]
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


def test_an_owners_withdrawal_is_acknowledged_once_and_then_explained(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    cli("pay", place.thing)
    tx_hash = shop.chain.transfer(AGENT, dev_address("savings"), 7)
    assert cli("reconcile").status == 1
    ran = cli("reconcile", "--acknowledge", tx_hash, "--reason", "to savings")
    assert (ran.status, "Acknowledged: $0.000007" in ran.out) == (0, True)
    assert "but for what was acknowledged" in cli("reconcile").out
    report = cli("reconcile", "--full", "--json").json()
    assert (report["ok"], report["acknowledgedMicros"]) == (True, 7)
    assert report["chainTotalMicros"] == report["ledgerTotalMicros"] + 7
    assert cli.db["acknowledged"].find_one({}, {"reason": 1, "_id": 0}) == {"reason": "to savings"}
    assert cli("reconcile", "--acknowledge", shop.transfers()[0].tx_hash).status == 2


def test_the_same_id_from_a_second_database_pays_nothing_and_is_resolved(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    assert cli("pay", place.thing, "--id", "one").status == 0
    [paid] = shop.transfers()
    for name in cli.db.list_collection_names():
        cli.db[name].delete_many({})
    again = cli("pay", place.thing, "--id", "one")
    assert again.status == 1
    assert f"--resolve {purchase_id_of('one')} --paid {paid.tx_hash}" in again.err
    report = cli("reconcile", "--json")
    [line] = report.json()["unclear"]
    assert (report.status, line["runId"], line["txHash"]) == (
        1,
        purchase_id_of("one"),
        paid.tx_hash,
    )
    said = ("reconcile", "--resolve", purchase_id_of("one"), "--paid", paid.tx_hash)
    assert cli(*said).status == 2, "a reason is missing"
    ran = cli(*said, "--reason", "bought from the laptop")
    assert (ran.status, "Booked as paid: $0.25" in ran.out) == (0, True)
    assert len(shop.transfers()) == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--paid", "0x12"), "--resolve"),
        (("--resolve", "r", "--reason", "x"), "--paid TX or --unpaid"),
        (("--resolve", "r", "--reason", "x", "--unpaid", "--paid", "0x12"), "--paid TX or"),
        (("--resolve", "r", "--unpaid", "--acknowledge", "0x12"), "--acknowledge"),
        (("--acknowledge", "0x12", "--url", "http://127.0.0.1:1"), "--url"),
    ],
)
def test_half_a_word_is_refused_before_anything_is_asked(
    cli: MoneyCli, words: tuple[str, ...], named: str
) -> None:
    ran = cli("reconcile", *words)
    assert (ran.status, named in ran.err) == (2, True)


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
    cli.db["purchases"].update_one({}, {"$inc": {"budgetRemaining": 1}})
    report = cli("reconcile", "--json")
    assert (report.status, report.json()["unbalanced"]) == (1, [purchase_id_of("one")])


def test_without_the_chain_nothing_is_decided(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.faults = {"500_before"}
    cli("pay", place.thing)
    monkeypatch.setenv("RPC_URL", "http://127.0.0.1:1")
    assert cli("reconcile").status == 3
