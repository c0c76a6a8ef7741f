"""`gpu-renter pay`, as a person types it, against a shop and a chain behind real sockets."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.ids import purchase_id_of
from domain.payments import PaymentState
from ledger.ledger import Ledger
from mock_vendor.accounts import dev_address
from server.commands.pay import _again
from server.config.settings import LOCAL_VENDOR_SECRET
from tests.server.money_cli import MoneyCli, money_cli
from tests.support.paid_shop import GOODS, SHOP, PaidShop, ServedShop, served
from tests.support.served import free_ports


@pytest.fixture(scope="module")
def place() -> Iterator[ServedShop]:
    with served(PaidShop(time.time)) as place:
        yield place


@pytest.fixture
def shop(place: ServedShop) -> PaidShop:
    return place.reopen(PaidShop(time.time))


@pytest.fixture
def cli(
    mongodb_uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MoneyCli]:
    with money_cli(mongodb_uri, capsys, monkeypatch) as cli:
        yield cli


@pytest.fixture
def _with_rpc(place: ServedShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RPC_URL", place.rpc_url)


@pytest.mark.usefixtures("_with_rpc")
@pytest.mark.parametrize("version", [1, 2])
def test_the_goods_go_to_stdout_and_the_receipt_to_stderr(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, version: int
) -> None:
    shop.version = version
    ran = cli("pay", place.thing, "--max-usd", "0.25", "--id", "weather")
    [transfer] = shop.transfers()
    assert (ran.status, ran.out) == (0, GOODS.decode())
    assert f"Paid $0.25 to {SHOP}" in ran.err
    assert f"Confirmed in block {transfer.block_number}: {transfer.tx_hash}" in ran.err
    again = cli("pay", place.thing, "--max-usd", "0.25", "--id", "weather")
    assert (again.status, again.out) == (0, ran.out)
    assert shop.transfers() == [transfer]


@pytest.mark.usefixtures("_with_rpc")
def test_a_fresh_id_is_told_first_and_names_the_purchase(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    first = cli("pay", place.thing, "--json")
    receipt = first.json()
    assert first.err.splitlines()[0] == f"Purchase {receipt['id']}"
    assert receipt["goods"]["body"] == GOODS.decode()
    assert receipt["payment"]["txHash"] == shop.transfers()[0].tx_hash
    assert receipt["payment"]["amountMicros"] == 250_000
    cli("pay", place.thing, "--id", receipt["id"])
    assert len(shop.transfers()) == 1
    cli("pay", place.thing)
    assert len(shop.transfers()) == 2


@pytest.mark.usefixtures("_with_rpc")
def test_a_price_above_the_maximum_is_refused_and_nothing_is_signed(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    ran = cli("pay", place.thing, "--max-usd", "0.24")
    assert (ran.status, ran.out) == (1, "")
    assert "$0.25 is asked for" in ran.err
    assert shop.payments == []


def test_a_seller_that_is_not_there_is_said_with_what_to_do(cli: MoneyCli) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/thing"
    ran = cli("pay", url, "--id", "one")
    assert (ran.status, ran.out) == (3, "")
    assert "the connection failed" in ran.err
    assert "Nothing was paid. Check the address, and whether the seller is up" in ran.err
    again = cli("pay", url, "--id", "one")
    assert "nothing can be under this --id" in again.err
    assert "another --id" in again.err, "as was said at once"


@pytest.mark.parametrize(
    ("rpc_url", "shown"),
    [
        ("http://127.0.0.1:8545/rpc/", "http://127.0.0.1:8545/rpc/"),
        ("https://rpc.example", "https://rpc.example"),
        ("https://rpc.example/v2/hunter2", "https://rpc.example/…"),
        ("https://rpc.example?key=hunter2", "https://rpc.example/…"),
        ("https://hunter2:hunter2@rpc.example", "https://rpc.example"),
    ],
)
def test_the_command_that_goes_on_names_the_rpc_and_no_key(rpc_url: str, shown: str) -> None:
    again = _again("https://shop.test/", [], {"--rpc-url": rpc_url})
    assert f"--rpc-url {shlex.quote(shown)}" in again
    assert "hunter2" not in again


@pytest.mark.usefixtures("_with_rpc")
def test_an_unknown_outcome_says_how_to_go_on_and_that_command_does(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    shop.faults = {"500_before"}
    ran = cli("pay", place.thing, "--id", "report 7".replace(" ", "-"))
    assert ran.status == 4
    assert "outcome is unknown" in ran.err
    again = next(line for line in ran.err.splitlines() if "gpu-renter pay" in line)
    shop.faults = set()
    words = again.partition("gpu-renter ")[2].split()
    assert words == ["pay", place.thing, "--id", "report-7", "--max-usd", "1.00"]
    assert cli(*words).status == 0
    assert len(set(shop.payments)) == 1
    assert len(shop.transfers()) == 1


def test_without_an_rpc_it_is_sent_and_confirmed_later(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    ran = cli("pay", place.thing, "--id", "one")
    assert (ran.status, ran.out) == (4, GOODS.decode())
    assert "no RPC to confirm it on" in ran.err
    assert "--rpc-url" in ran.err
    confirmed = cli("pay", place.thing, "--id", "one", "--rpc-url", place.rpc_url)
    assert confirmed.status == 0
    assert f"Confirmed in block {shop.transfers()[0].block_number}" in confirmed.err
    assert len(shop.transfers()) == 1
    assert len(set(shop.payments)) == 1
    stored = cli("pay", place.thing, "--id", "one")
    assert stored.status == 0


@pytest.mark.usefixtures("_with_rpc")
def test_paid_and_not_delivered_is_a_failure_that_can_be_mended(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    shop.faults = {"500_after"}
    ran = cli("pay", place.thing, "--id", "one")
    assert ran.status == 1
    assert "It was paid, and the goods have not come" in ran.err
    shop.faults = set()
    assert cli("pay", place.thing, "--id", "one").out == GOODS.decode()
    assert len(shop.transfers()) == 1


@pytest.mark.usefixtures("_with_rpc")
def test_a_seller_that_gives_only_once_leaves_the_stored_receipt(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    shop.replays = False
    cli("pay", place.thing, "--id", "one")
    again = cli("pay", place.thing, "--id", "one", "--json")
    receipt = again.json()
    assert again.status == 0
    assert (receipt["outcome"], receipt["delivered"], receipt["goods"]) == ("paid", True, None)
    assert receipt["payment"]["txHash"] == shop.transfers()[0].tx_hash


@pytest.mark.usefixtures("_with_rpc")
def test_what_is_free_is_given_and_nothing_is_paid(
    cli: MoneyCli, place: ServedShop, shop: PaidShop
) -> None:
    ran = cli("pay", f"{place.url}/free")
    assert (ran.status, ran.out) == (0, GOODS.decode())
    assert "No payment was asked" in ran.err
    assert shop.transfers() == []


@pytest.mark.usefixtures("_with_rpc")
def test_a_redirect_is_a_refusal(cli: MoneyCli, place: ServedShop, shop: PaidShop) -> None:
    ran = cli("pay", f"{place.url}/moved")
    assert ran.status == 1
    assert "not followed" in ran.err
    assert shop.asked == []


@pytest.mark.usefixtures("_with_rpc")
def test_the_goods_go_into_a_file(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, tmp_path: Path
) -> None:
    shop.goods = bytes(range(256))
    ran = cli("pay", place.thing, "--output", str(tmp_path / "goods.bin"))
    assert (ran.status, ran.out) == (0, "")
    assert (tmp_path / "goods.bin").read_bytes() == shop.goods


@pytest.mark.usefixtures("_with_rpc")
def test_data_and_headers_are_sent_each_time_and_no_header_is_repeated_in_the_hint(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, tmp_path: Path
) -> None:
    (tmp_path / "body.json").write_bytes(b'{"city": "Turin"}')
    shop.faults = {"500_before"}
    ran = cli(
        "pay",
        place.thing,
        "--data",
        "@body.json",
        "--header",
        "Authorization: Bearer hush",
        "--header",
        "X-Unit: C",
    )
    assert ran.status == 4
    assert shop.bodies == [b'{"city": "Turin"}'] * 2
    assert {h["authorization"] for h in shop.asked} == {"Bearer hush"}
    assert {h["content-type"] for h in shop.asked} == {"application/json"}
    assert "hush" not in ran.err + ran.out


@pytest.mark.usefixtures("_with_rpc")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["ftp://x.test/"], "URL"),
        (["http://shop.test/thing", "--network", "base"], "not encrypted"),
        (["https://user:pw@shop.test/"], "password"),
        (["https://shop.test/ "], "Percent-encode"),
        (["https://shop.test/", "--max-usd", "0"], "--max-usd"),
        (["https://shop.test/", "--max-usd", "NaN"], "--max-usd"),
        (["https://shop.test/", "--id", "a b"], "--id"),
        (["https://shop.test/", "--pay-to", SHOP.lower()], "not checksummed"),
        (["https://shop.test/", "--header", "X-PAYMENT: mine"], "set by the payment"),
        (["https://shop.test/", "--header", "nothing"], "--header"),
        (["https://shop.test/", "--method", "BREW"], "--method"),
        (["https://shop.test/", "--data", "@nowhere"], "--data"),
        (["https://shop.test/", "--output", "/nowhere/x"], "--output"),
        (["https://shop.test/", "--network", "solana"], "network"),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_happens(
    cli: MoneyCli, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.setenv("X402_PRIVATE_KEY", "11" * 32)
    ran = cli("pay", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert named in ran.err
    assert cli.db.list_collection_names() == []


def test_an_rpc_of_another_chain_is_refused(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_PRIVATE_KEY", "11" * 32)
    options = ("--network", "base-sepolia", "--rpc-url", place.rpc_url)
    ran = cli("pay", place.thing, *options)
    assert ran.status == 2
    assert "serves chain 31337" in ran.err
    assert shop.asked == []


def test_a_purchase_is_never_judged_by_another_network(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.faults = {"500_before"}
    cli("pay", place.thing, "--id", "one", "--rpc-url", place.rpc_url)
    monkeypatch.setenv("X402_PRIVATE_KEY", "11" * 32)
    ran = cli("pay", place.thing, "--id", "one", "--network", "base-sepolia")
    assert ran.status == 5
    assert "eip155:31337" in ran.err
    states = cli.with_ledger(_states)
    assert states == [PaymentState.AUTHORIZED]


async def _states(ledger: Ledger) -> list[PaymentState]:
    return [p.state for p in await ledger.payments.of_run(purchase_id_of("one"))]


@pytest.mark.usefixtures("_with_rpc")
def test_a_terminal_gets_no_control_characters(
    cli: MoneyCli, place: ServedShop, shop: PaidShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shop.goods = "fine\n\ttab \x1b[2Jgone ‮evil".encode()
    ran = cli("pay", place.thing)
    assert ran.status == 0
    assert "\x1b[2J" not in ran.out
    assert "‮" not in ran.out
    assert "fine\n\ttab" in ran.out


def test_a_gpu_vendors_job_can_be_bought_by_hand(
    cli: MoneyCli, vendor_url: str, chain_url: str
) -> None:
    secret = ("--header", f"Authorization: Bearer {LOCAL_VENDOR_SECRET}")
    vendor = ("--header", "x-vendor-id: gpu_vendor_2")
    wish = '{"jobType": "train", "gpuType": "A100", "maxHours": 0.5}'
    quoted = cli("pay", f"{vendor_url}/quote", *secret, *vendor, "--data", wish)
    assert quoted.status == 0
    template = json.loads(quoted.out)["vendorJobTemplateId"]
    order = json.dumps({"vendorJobTemplateId": template, "jobParams": {"epochs": 1}})
    ask = ("pay", f"{vendor_url}/submit-job", *secret, *vendor, "--data", order, "--json")
    bought = [cli(*ask, "--id", "job", "--rpc-url", chain_url) for _ in range(2)]
    assert [ran.status for ran in bought] == [0, 0]
    receipts = [ran.json() for ran in bought]
    assert receipts[0]["payment"] == receipts[1]["payment"]
    assert receipts[0]["payment"]["payTo"] == dev_address("gpu_vendor_2")
    jobs = {json.loads(r["goods"]["body"])["vendorJobId"] for r in receipts}
    assert len(jobs) == 1
