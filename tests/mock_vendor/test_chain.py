"""The local EVM chain: its JSON-RPC, its time, and its survival."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from mock_vendor.accounts import (
    AGENT_FUNDS,
    LOCAL_USDC_ADDRESS,
    dev_address,
)
from mock_vendor.chain.blocks import ChainError
from mock_vendor.chain.chain import LocalChain, create_chain_app
from mock_vendor.chain.journal import FolderInUse
from mock_vendor.chain.rpc import JsonRpc
from mock_vendor.chain.token import MINT, TRANSFER, address_bytes, selector, word

from .worlds import balance, send, signed

AGENT, VENDOR = dev_address("agent"), dev_address("gpu_vendor_1")


def payment(value: int) -> bytes:
    return selector(TRANSFER) + word(address_bytes(VENDOR)) + word(value)


class Opener(Protocol):
    """Opens chains and closes them after the test."""

    def __call__(
        self, folder: Path | None = None, *, clock: Callable[[], float] = time.time
    ) -> LocalChain: ...


@pytest.fixture
def open_chain() -> Iterator[Opener]:
    with ExitStack() as stack:

        def opener(
            folder: Path | None = None, *, clock: Callable[[], float] = time.time
        ) -> LocalChain:
            chain = LocalChain(folder, clock=clock)
            stack.callback(chain.close)
            return chain

        yield opener


@pytest.fixture
def chain(open_chain: Opener) -> LocalChain:
    return open_chain()


def reopened(open_chain: Opener, chain: LocalChain, folder: Path) -> JsonRpc:
    chain.close()
    return JsonRpc(open_chain(folder))


def test_each_fresh_chain_has_the_token_at_the_same_address(chain: LocalChain) -> None:
    rpc = JsonRpc(chain)
    assert len(rpc.call("eth_getCode", [LOCAL_USDC_ADDRESS, "latest"])) > 1000
    assert balance(rpc, AGENT) == AGENT_FUNDS


async def test_answers_are_standard_json_rpc(chain: LocalChain) -> None:
    transport = httpx.ASGITransport(create_chain_app(chain))
    async with httpx.AsyncClient(transport=transport, base_url="http://chain") as client:

        async def post(method: str, *params: Any) -> Any:
            request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
            answer = (await client.post("/", json=request)).json()
            assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
            return answer

        assert (await post("eth_chainId"))["result"] == "0x7a69"
        assert (await post("eth_gasPrice"))["result"].startswith("0x")
        draft = {"from": AGENT, "to": LOCAL_USDC_ADDRESS, "data": "0x" + payment(5).hex()}
        estimate = int((await post("eth_estimateGas", draft))["result"], 16)
        raw = signed("agent", payment(5), 0)
        tx_hash = (await post("eth_sendRawTransaction", raw))["result"]
        assert len(tx_hash) == 66
        receipt = (await post("eth_getTransactionReceipt", tx_hash))["result"]
        assert (receipt["status"], receipt["to"]) == ("0x1", LOCAL_USDC_ADDRESS)
        assert all(isinstance(t, str) and len(t) == 66 for t in receipt["logs"][0]["topics"])
        assert (await post("eth_getTransactionCount", AGENT, "latest"))["result"] == "0x1"
        assert int((await post("eth_getBalance", AGENT, "latest"))["result"], 16) > 0
        assert int(receipt["gasUsed"], 16) <= estimate < 200_000
        mint = "0x" + (selector(MINT) + word(1) + word(1)).hex()
        refused = await post("eth_call", {"to": LOCAL_USDC_ADDRESS, "data": mint}, "latest")
        assert refused["error"]["code"] == 3
        assert "caller is not a minter" in refused["error"]["message"]
        assert refused["error"]["data"].startswith("0x08c379a0")
        assert (await post("eth_sendRawTransaction", raw))["error"]["message"] == "already known"
        assert (
            "nonce too high"
            in (await post("eth_sendRawTransaction", signed("agent", payment(5), 9)))["error"][
                "message"
            ]
        )
        assert (await post("eth_noSuchThing"))["error"]["code"] == -32601
        assert (await post("eth_getBalance", "nonsense"))["error"]["code"] == -32602
        batch = await client.post("/", json=[{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}])
        assert batch.json() == [{"jsonrpc": "2.0", "id": 1, "result": "0x7a69"}]
        assert (await client.post("/", content=b"{")).json()["error"]["code"] == -32700


def test_a_reverted_transaction_is_mined_and_says_so(chain: LocalChain) -> None:
    rpc = JsonRpc(chain)
    tx_hash = send(rpc, "poor", payment(5))
    receipt = rpc.call("eth_getTransactionReceipt", [tx_hash])
    assert (receipt["status"], receipt["logs"]) == ("0x0", [])


def test_block_time_follows_the_clock_without_transactions(open_chain: Opener) -> None:
    now = [1_900_000_000.0]
    rpc = JsonRpc(open_chain(clock=lambda: now[0]))

    def latest() -> tuple[int, int]:
        block = rpc.call("eth_getBlockByNumber", ["latest", False])
        return int(block["number"], 16), int(block["timestamp"], 16)

    number, timestamp = latest()
    now[0] += 1
    assert latest() == (number, timestamp)
    now[0] += 30
    assert latest() == (number + 1, timestamp + 31)
    assert latest() == (number + 1, timestamp + 31)


def test_many_transactions_in_a_second_do_not_run_ahead_of_the_clock(open_chain: Opener) -> None:
    chain = open_chain(clock=lambda: 1_900_000_000.0)
    for value in range(3):
        send(JsonRpc(chain), "agent", payment(value))
    assert chain.head().timestamp == 1_900_000_000


def test_a_restart_keeps_blocks_balances_and_moved_time(tmp_path: Path, open_chain: Opener) -> None:
    now = [1_900_000_000.0]
    chain = open_chain(tmp_path, clock=lambda: now[0])
    rpc = JsonRpc(chain)
    for value in (10, 20, 30):
        now[0] += 5
        tx_hash = send(rpc, "agent", payment(value))
        rpc.call("eth_blockNumber", [])
    rpc.call("evm_increaseTime", [1000])
    head = rpc.call("evm_mine", []) and rpc.call("eth_getBlockByNumber", ["latest", True])
    chain.close()
    again = JsonRpc(open_chain(tmp_path, clock=lambda: now[0] + 10))
    number = head["number"]
    assert again.call("eth_getBlockByNumber", [number, True]) == head
    assert again.call("eth_getTransactionReceipt", [tx_hash])["status"] == "0x1"
    assert balance(again, VENDOR) == 60
    assert int(head["timestamp"], 16) == 1_900_001_015
    latest = again.call("eth_getBlockByNumber", ["latest", False])
    assert int(latest["timestamp"], 16) == 1_900_001_025


def test_a_torn_last_line_is_dropped_and_the_chain_goes_on(
    tmp_path: Path, open_chain: Opener
) -> None:
    chain = open_chain(tmp_path)
    send(JsonRpc(chain), "agent", payment(10))
    chain.close()
    journal = tmp_path / "chain.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"t":1900000000,"tx":["0x' + b"f8" * 5_000)
    first = open_chain(tmp_path)
    assert balance(JsonRpc(first), VENDOR) == 10
    send(JsonRpc(first), "agent", payment(20))
    assert balance(reopened(open_chain, first, tmp_path), VENDOR) == 30
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())


@pytest.mark.parametrize("kept_lines", [0, 1, 2])
def test_a_crash_during_the_first_start_is_made_good(
    tmp_path: Path, kept_lines: int, open_chain: Opener
) -> None:
    open_chain(tmp_path).close()
    journal = tmp_path / "chain.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    journal.write_bytes(b"".join(lines[:kept_lines]))
    rpc = JsonRpc(open_chain(tmp_path))
    assert balance(rpc, AGENT) == AGENT_FUNDS
    assert len(rpc.call("eth_getCode", [LOCAL_USDC_ADDRESS, "latest"])) > 1000


def test_a_transaction_that_cannot_be_journaled_did_not_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_chain: Opener
) -> None:
    chain = open_chain(tmp_path)
    rpc = JsonRpc(chain)
    raw = signed("agent", payment(10), 0)

    def full_disk(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match="no space"):
            rpc.call("eth_sendRawTransaction", [raw])
    assert balance(rpc, VENDOR) == 0
    rpc.call("eth_sendRawTransaction", [raw])
    assert balance(reopened(open_chain, chain, tmp_path), VENDOR) == 10


def test_a_folder_in_use_is_refused_with_the_holder_named(
    tmp_path: Path, open_chain: Opener
) -> None:
    chain = open_chain(tmp_path)
    with pytest.raises(FolderInUse, match=r"another live process \(pid \d+\)"):
        open_chain(tmp_path)
    chain.close()
    open_chain(tmp_path).close()


def test_time_does_not_run_backwards(chain: LocalChain) -> None:
    with pytest.raises(ChainError):
        chain.increase_time(-1)
    with pytest.raises(ChainError):
        chain.mine(chain.head().timestamp - 1)
