"""The chain reader against the in-memory token, and against nodes that lie or fail."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import ChainDown, ConfigError, InvalidInput
from domain.money import Usd
from tests.support.memory_chain import MemoryChain
from tests.tools.builders import AGENT, NETWORK, NONCE, PAYEE, STRANGER, TX, Recorder
from tests.tools.test_challenge import JSON
from tools.payments.chain import (
    AUTHORIZATION_USED,
    BLOCKS_PER_QUERY,
    MOST_QUERIES,
    TRANSFER,
    Block,
    Cancelled,
    ChainReader,
    Settled,
    Unclear,
    Unused,
)
from tools.payments.json_rpc import address_word

NOW = 1_790_000_000
OTHER_NONCE = "0x" + "cd" * 32
RPC_URL = "http://rpc.test"
KEYED_URL = "http://rpc.test/v2/secret-api-key-123"


def reader_over(
    transport: httpx.AsyncBaseTransport, confirmations: int = 0, url: str = RPC_URL
) -> ChainReader:
    network = replace(NETWORK, confirmations=confirmations)
    return ChainReader(network, url, httpx.AsyncClient(transport=transport), retry_wait_s=0)


def reader_of(handler: Callable[[httpx.Request], httpx.Response]) -> ChainReader:
    return reader_over(httpx.MockTransport(handler), url=KEYED_URL)


@pytest.fixture
def chain() -> MemoryChain:
    chain = MemoryChain(lambda: NOW)
    chain.mint(AGENT, 10_000_000)
    return chain


@pytest.fixture
def reader(chain: MemoryChain) -> ChainReader:
    return reader_over(httpx.ASGITransport(chain.asgi()))


def pay(chain: MemoryChain, value: int = 2_000_000, nonce: str = NONCE, to: str = PAYEE) -> str:
    return chain.transfer_with_authorization(AGENT, to, value, 0, NOW + 600, nonce)


async def test_the_head_and_balances_are_read(chain: MemoryChain, reader: ChainReader) -> None:
    assert await reader.head() == Block(chain.head().number, NOW)
    assert await reader.balance(AGENT) == Usd(10_000_000)
    assert await reader.balance(STRANGER) == Usd(0)


async def test_an_authorization_nobody_used_is_unused(reader: ChainReader) -> None:
    assert await reader.authorization(AGENT, NONCE, from_block=0) == Unused(await reader.head())


async def test_a_used_authorization_is_settled_with_what_really_moved(
    chain: MemoryChain, reader: ChainReader
) -> None:
    tx = pay(chain)
    fate = await reader.authorization(AGENT, NONCE, from_block=0)
    assert fate == Settled(tx, chain.head().number, PAYEE, Usd(2_000_000))


async def test_a_cancelled_authorization_was_not_paid(
    chain: MemoryChain, reader: ChainReader
) -> None:
    tx = chain.cancel(AGENT, NONCE)
    assert await reader.authorization(AGENT, NONCE, from_block=0) == Cancelled(tx)


async def test_a_used_nonce_without_an_event_in_range_stays_unknown(
    chain: MemoryChain, reader: ChainReader
) -> None:
    pay(chain)
    after = chain.mine().number
    fate = await reader.authorization(AGENT, NONCE, from_block=after)
    assert isinstance(fate, Unclear)
    assert (fate.tx_hash, "no event that says how" in fate.problem) == (None, True)


async def test_nothing_is_believed_before_it_is_deep_enough(chain: MemoryChain) -> None:
    reader = reader_over(httpx.ASGITransport(chain.asgi()), confirmations=2)
    chain.mine()
    chain.mine()
    tx = pay(chain)
    assert isinstance(await reader.authorization(AGENT, NONCE, from_block=0), Unused)
    assert await reader.balance(AGENT) == Usd(10_000_000)
    assert await reader.transfers_in(tx, sender=AGENT, recipient=PAYEE) == []
    assert await reader.transfers(sender=AGENT, recipient=None, from_block=0) == []
    chain.mine()
    chain.mine()
    assert isinstance(await reader.authorization(AGENT, NONCE, from_block=0), Settled)
    assert len(await reader.transfers_in(tx, sender=AGENT, recipient=PAYEE)) == 1


async def test_transfers_are_found_by_either_side(chain: MemoryChain, reader: ChainReader) -> None:
    pay(chain, 1)
    chain.transfer(PAYEE, AGENT, 1)
    chain.transfer(AGENT, STRANGER, 3)
    sent = await reader.transfers(sender=AGENT, recipient=None, from_block=0)
    back = await reader.transfers(sender=PAYEE, recipient=AGENT, from_block=0)
    assert [(t.recipient, t.amount.micros) for t in sent] == [(PAYEE, 1), (STRANGER, 3)]
    assert [(t.sender, t.recipient, t.amount.micros) for t in back] == [(PAYEE, AGENT, 1)]
    early = await reader.transfers(
        sender=AGENT, recipient=None, from_block=0, to_block=sent[0].block_number
    )
    assert early == sent[:1]


async def test_a_long_range_is_asked_for_in_pieces(chain: MemoryChain) -> None:
    pay(chain, 1)
    for _ in range(BLOCKS_PER_QUERY):
        chain.mine()
    pay(chain, 2, OTHER_NONCE)
    ranges: list[tuple[int, int]] = []

    async def app(request: httpx.Request) -> httpx.Response:
        call = json.loads(request.content)
        if call["method"] == "eth_getLogs":
            wanted = call["params"][0]
            ranges.append((int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)))
        result = chain.json_rpc(call["method"], call["params"])
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": call["id"], "result": result})

    reader = reader_over(httpx.MockTransport(app))
    found = await reader.transfers(sender=AGENT, recipient=None, from_block=0)
    assert [t.amount.micros for t in found] == [1, 2]
    assert ranges == [(0, 1_999), (2_000, chain.head().number)]


async def test_transfers_of_everyone_are_not_asked_for(reader: ChainReader) -> None:
    with pytest.raises(InvalidInput, match="neither"):
        await reader.transfers(sender=None, recipient=None, from_block=0)


async def test_a_refund_is_looked_up_in_its_own_transaction(
    chain: MemoryChain, reader: ChainReader
) -> None:
    pay(chain)
    tx = chain.transfer(PAYEE, AGENT, 500_000)
    [refund] = await reader.transfers_in(tx, sender=PAYEE, recipient=AGENT)
    assert (refund.tx_hash, refund.amount) == (tx, Usd(500_000))
    assert await reader.transfers_in(tx, sender=PAYEE, recipient=None) == [refund]
    assert await reader.nonce_of(refund) is None, "a plain transfer"
    assert await reader.transfers_in(tx, sender=AGENT, recipient=PAYEE) == []
    assert await reader.transfers_in(TX, sender=PAYEE, recipient=AGENT) == []
    assert await reader.transfers_in("local_tx_1", sender=PAYEE, recipient=AGENT) == []


async def test_a_right_network_passes_the_check(reader: ChainReader) -> None:
    await reader.check()


async def test_a_wrong_chain_or_a_missing_token_is_a_configuration_error(
    chain: MemoryChain,
) -> None:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(chain.asgi()))
    elsewhere = replace(NETWORK, caip2="eip155:1")
    no_token = replace(NETWORK, usdc=STRANGER)
    for network, problem in ((elsewhere, "serves chain 31337"), (no_token, "knows no USDC")):
        with pytest.raises(ConfigError, match=problem):
            await ChainReader(network, RPC_URL, http).check()


@pytest.mark.parametrize("address", ["", "0x12", "gpu.eth", "0x" + "g" * 40])
async def test_what_is_no_address_is_refused(reader: ChainReader, address: str) -> None:
    with pytest.raises(InvalidInput, match="address"):
        await reader.balance(address)


async def test_what_is_no_nonce_is_refused(reader: ChainReader) -> None:
    with pytest.raises(InvalidInput, match="nonce"):
        await reader.authorization(AGENT, "0x1", from_block=0)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectTimeout("t"),
        httpx.ReadTimeout("t"),
        httpx.RemoteProtocolError("cut short"),
        httpx.Response(429),
        httpx.Response(503),
        httpx.Response(302, headers={"location": "http://evil.test"}),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"id": 1}),
        httpx.Response(200, json={"id": 2, "result": "0x1"}),
        httpx.Response(200, json={"id": 1, "result": "latest"}),
        httpx.Response(200, json={"id": 1, "error": {"message": "no secret-api-key-123"}}),
        httpx.Response(200, json={"id": 1, "error": "down"}),
    ],
)
async def test_a_node_that_fails_is_chain_down_and_the_key_stays_hidden(
    answer: httpx.Response | Exception,
) -> None:
    node = Recorder(answer)
    with pytest.raises(ChainDown, match=r"rpc\.test") as down:
        await reader_of(node).head()
    assert "secret-api-key" not in str(down.value) + repr(reader_of(node))
    assert "evil" not in {request.url.host for request in node.requests}


async def test_a_read_is_tried_three_times() -> None:
    good = httpx.Response(200, json={"id": 1, "result": hex(NETWORK.chain_id)})
    node = Recorder(httpx.ReadTimeout("t"), httpx.Response(500), good, good)
    assert await reader_of(node)._rpc.quantity("eth_chainId") == NETWORK.chain_id
    assert len(node.requests) == 3
    dead = Recorder(httpx.Response(500))
    with pytest.raises(ChainDown):
        await reader_of(dead).head()
    assert len(dead.requests) == 3


@pytest.mark.parametrize("url", ["", "ftp://rpc.test", "http://", "::::"])
def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="RPC_URL"):
        ChainReader(NETWORK, url, httpx.AsyncClient())


def event(index: int, *topics: str, value: int | None = None) -> dict[str, Any]:
    return {
        "address": NETWORK.usdc,
        "topics": list(topics),
        "data": "0x" if value is None else f"0x{value:064x}",
        "transactionHash": TX,
        "logIndex": hex(index),
        "blockNumber": "0x5",
    }


def used(index: int, nonce: str = NONCE, **changes: object) -> dict[str, Any]:
    return event(index, AUTHORIZATION_USED, "0x" + address_word(AGENT), nonce) | changes


def moved(
    index: int, value: int, to: str = PAYEE, sender: str = AGENT, **changes: object
) -> dict[str, Any]:
    ends = ("0x" + address_word(sender), "0x" + address_word(to))
    return event(index, TRANSFER, *ends, value=value) | changes


@dataclass
class ScriptedNode:
    """A node with one used nonce and one transaction, whose events the test writes."""

    logs: list[dict[str, Any]]
    status: str = "0x1"
    state: str = f"0x{1:064x}"
    receipt_block: str = "0x5"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        call = json.loads(request.content)
        results: dict[str, object] = {
            "eth_blockNumber": "0x9",
            "eth_getBlockByNumber": {"number": "0x9", "timestamp": hex(NOW)},
            "eth_call": self.state,
            "eth_getLogs": self.logs,
            "eth_getTransactionReceipt": {
                "transactionHash": TX,
                "status": self.status,
                "blockNumber": self.receipt_block,
                "logs": self.logs,
            },
        }
        return httpx.Response(200, json={"id": 1, "result": results[call["method"]]})

    async def fate(self) -> object:
        return await reader_of(self).authorization(AGENT, NONCE, from_block=0)


async def test_an_event_with_a_topic_more_is_no_transfer() -> None:
    ends = ("0x" + address_word(AGENT), "0x" + address_word(PAYEE))
    reader = reader_of(ScriptedNode([event(4, TRANSFER, *ends, NONCE, value=7), moved(5, 8)]))
    found = await reader.transfers_in(TX, sender=AGENT, recipient=PAYEE)
    assert [transfer.log_index for transfer in found] == [5]


async def test_of_several_authorizations_in_one_transaction_the_adjacent_transfer_counts() -> None:
    node = ScriptedNode(
        [used(3, OTHER_NONCE), moved(4, 7, STRANGER), used(5), moved(6, 8), moved(7, 9)]
    )
    assert await node.fate() == Settled(TX, 5, PAYEE, Usd(8))


@pytest.mark.parametrize(
    "logs",
    [
        [used(3)],
        [moved(2, 8), used(3)],
        [used(3), moved(5, 8)],
        [used(3), moved(4, 8, sender=STRANGER)],
        [used(3), moved(4, 8, address=STRANGER)],
        [used(3), event(4, TRANSFER)],
        [used(3), event(4)],
        [used(3), used(4, OTHER_NONCE), moved(5, 8)],
        [used(3), moved(4, 8), used(5), moved(6, 8)],
    ],
)
async def test_without_the_transfer_that_must_follow_a_payment_is_unclear(
    logs: list[dict[str, Any]],
) -> None:
    fate = await ScriptedNode(logs).fate()
    assert isinstance(fate, Unclear)
    assert fate.tx_hash == TX


@pytest.mark.parametrize(
    "logs",
    [
        [],
        [used(3, address=STRANGER), moved(4, 8)],
        [used(3, OTHER_NONCE), moved(4, 8)],
        [used(3, removed=True), moved(4, 8)],
        [used(3, blockNumber="0xa"), moved(4, 8)],
    ],
)
async def test_events_that_were_not_asked_for_are_no_proof(logs: list[dict[str, Any]]) -> None:
    fate = await ScriptedNode(logs).fate()
    assert isinstance(fate, Unclear)
    assert "no event" in fate.problem


@pytest.mark.parametrize(("name", "value"), [("status", "0x0"), ("receipt_block", "0xa")])
async def test_a_failed_or_young_receipt_is_no_proof(name: str, value: str) -> None:
    node = ScriptedNode([used(3), moved(4, 8)])
    setattr(node, name, value)
    assert isinstance(await node.fate(), Unclear)


@pytest.mark.parametrize("state", [f"0x{2:064x}", "0x"])
async def test_a_node_that_answers_nonsense_is_down(state: str) -> None:
    with pytest.raises(ChainDown):
        await ScriptedNode([used(3), moved(4, 8)], state=state).fate()
    with pytest.raises(ChainDown):
        await ScriptedNode([used(3), moved(4, 8, data="0x08")]).fate()


async def test_a_range_beyond_reason_is_not_searched() -> None:
    def node(request: httpx.Request) -> httpx.Response:
        method = json.loads(request.content)["method"]
        head = {"number": hex(10**9), "timestamp": hex(NOW)}
        result = head if method == "eth_getBlockByNumber" else hex(10**9)
        return httpx.Response(200, json={"id": 1, "result": result})

    reader, most = reader_of(node), BLOCKS_PER_QUERY * MOST_QUERIES
    for first in (0, 10**9 - most):
        with pytest.raises(ChainDown, match="too many"):
            await reader.transfers(sender=AGENT, recipient=None, from_block=first)
    with pytest.raises(ChainDown) as asked:
        await reader.transfers(sender=AGENT, recipient=None, from_block=10**9 - most + 1)
    assert "too many" not in str(asked.value), "the node was asked, and answered nonsense"


@settings(max_examples=40)
@given(JSON, st.sampled_from(["eth_getLogs", "eth_getTransactionReceipt", "eth_call"]))
async def test_random_answers_never_settle_anything(value: object, method: str) -> None:
    scripted = ScriptedNode([used(3), moved(4, 8)])

    def node(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content)["method"] == method:
            return httpx.Response(200, content=json.dumps({"id": 1, "result": value}).encode())
        return scripted(request)

    with suppress(ChainDown):
        fate = await reader_of(node).authorization(AGENT, NONCE, from_block=0)
        assert isinstance(fate, Unclear | Unused)


async def test_transfers_of_nothing_are_no_transfers(
    chain: MemoryChain, reader: ChainReader
) -> None:
    """Anybody can emit one between any two addresses."""
    pay(chain)
    tx = chain.transfer(PAYEE, AGENT, 0)
    chain.transfer(AGENT, STRANGER, 0)
    assert await reader.transfers_in(tx, sender=PAYEE, recipient=AGENT) == []
    assert await reader.transfers(sender=None, recipient=AGENT, from_block=2) == []
    assert len(await reader.transfers(sender=AGENT, recipient=None, from_block=0)) == 1


class Restricted:
    """A node over the memory chain that refuses long ranges, counts calls, and may know `safe`."""

    def __init__(self, chain: MemoryChain, most: int, *, safe: int | None = None) -> None:
        self.chain = chain
        self.most = most
        self.safe = safe
        self.asked: list[str] = []
        self.ranges: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        call = json.loads(request.content)
        method, params = call["method"], call["params"]
        self.asked.append(method)
        if method == "eth_getLogs":
            length = int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
            self.ranges.append(length)
            if length > self.most:
                error = {"code": -32005, "message": "query returned more than 10000 results"}
                return httpx.Response(400, json={"id": 1, "error": error})
        if params and params[0] == "safe":
            if self.safe is None:
                error = {"code": -32602, "message": "invalid argument 0: hex string"}
                return httpx.Response(200, json={"id": 1, "error": error})
            params = [hex(self.safe), False]
        result = self.chain.json_rpc(method, params)
        return httpx.Response(200, json={"id": 1, "result": result})

    def reader(self, *, local: bool = True, confirmations: int = 0) -> ChainReader:
        network = replace(NETWORK, is_local=local, confirmations=confirmations)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return ChainReader(network, RPC_URL, http, retry_wait_s=0)


async def test_a_range_that_the_node_refuses_is_halved(chain: MemoryChain) -> None:
    pay(chain)
    for _ in range(300):
        chain.mine()
    node = Restricted(chain, 100)
    found = await node.reader().transfers(sender=AGENT, recipient=None, from_block=0)
    assert len(found) == 1
    answered = [length for length in node.ranges if length <= 100]
    assert sum(answered) == chain.head().number + 1, "each block once"
    assert len(node.ranges) - len(answered) == 2


async def test_a_node_that_refuses_every_range_is_said_to_be_down(chain: MemoryChain) -> None:
    pay(chain)
    reader = Restricted(chain, 0).reader()
    with pytest.raises(ChainDown, match="more than 10000 results"):
        await reader.transfers(sender=AGENT, recipient=None, from_block=0)
    assert isinstance(await reader.authorization(AGENT, NONCE, from_block=0), Unclear)


async def test_a_payment_is_searched_for_only_where_it_was_valid() -> None:
    now = [NOW]
    chain = MemoryChain(lambda: now[0])
    chain.mint(AGENT, 10_000_000)
    tx = pay(chain)
    for _ in range(3 * BLOCKS_PER_QUERY):
        now[0] += 2
        chain.mine()
    node = Restricted(chain, 10**6)
    fate = await node.reader().authorization(AGENT, NONCE, from_block=0, valid_before_s=NOW + 600)
    assert isinstance(fate, Settled)
    assert fate.tx_hash == tx
    assert node.ranges == [303], "not the six thousand that came after"
    assert await node.reader().block_at(NOW + 600) == 302


async def test_off_the_local_chain_payments_wait_for_the_safe_block(chain: MemoryChain) -> None:
    tx = pay(chain)
    paid_in = chain.head().number
    for _ in range(9):
        chain.mine()
    node = Restricted(chain, 10**6, safe=paid_in - 1)
    reader = node.reader(local=False, confirmations=2)
    assert (await reader.final()).number == paid_in - 1
    assert (await reader.head()).number == paid_in + 7
    assert isinstance(await reader.authorization(AGENT, NONCE, from_block=0), Unused)
    assert await reader.transfers_in(tx, sender=AGENT, recipient=PAYEE) == []
    assert await reader.transfers(sender=AGENT, recipient=None, from_block=0) == []
    assert await reader.used(AGENT, [NONCE, OTHER_NONCE]) == {NONCE}, "seen sooner, to be careful"
    node.safe = paid_in
    assert isinstance(await reader.authorization(AGENT, NONCE, from_block=0), Settled)
    assert len(await reader.transfers_in(tx, sender=AGENT, recipient=PAYEE)) == 1


async def test_a_node_without_a_safe_block_is_believed_after_confirmations(
    chain: MemoryChain,
) -> None:
    pay(chain)
    for _ in range(4):
        chain.mine()
    reader = Restricted(chain, 10**6).reader(local=False, confirmations=2)
    assert await reader.final() == await reader.head()


async def test_a_node_that_is_too_busy_for_the_safe_block_is_asked_again_and_not_bypassed() -> None:
    busy = httpx.Response(200, json={"id": 1, "error": {"code": -32005, "message": "slow down"}})
    node = Recorder(busy)
    network = replace(NETWORK, is_local=False)
    http = httpx.AsyncClient(transport=httpx.MockTransport(node))
    with pytest.raises(ChainDown, match="slow down"):
        await ChainReader(network, RPC_URL, http, retry_wait_s=0).final()
    assert len(node.requests) == 3
