"""What the EVM chain and the memory chain must agree on: the same tests, run on each."""

import time
from dataclasses import replace

import pytest
from x402.mechanisms.evm.constants import (
    ERR_INSUFFICIENT_BALANCE,
    ERR_INVALID_SIGNATURE,
    ERR_NONCE_ALREADY_USED,
    ERR_RECIPIENT_MISMATCH,
    ERR_VALID_BEFORE_EXPIRED,
)

from mock_vendor.accounts import AGENT_FUNDS, LOCAL_USDC_ADDRESS, dev_address, dev_key
from mock_vendor.chain.blocks import ChainError, Reverted
from mock_vendor.chain.token import (
    AUTHORIZATION_CANCELED_EVENT,
    AUTHORIZATION_USED_EVENT,
    TRANSFER_EVENT,
    address_bytes,
    word,
)
from mock_vendor.facilitator.authorization import read_authorization

from .shop import sign
from .worlds import EvmWorld, MemoryWorld, World, balance, call, is_closed, logs, requirements

AGENT, VENDOR = dev_address("agent"), dev_address("gpu_vendor_1")
AGENT_TOPIC, VENDOR_TOPIC = (word(address_bytes(a)) for a in (AGENT, VENDOR))
NONCE = b"n" * 32


@pytest.fixture(params=[MemoryWorld, EvmWorld], ids=["memory", "evm"])
def world(request: pytest.FixtureRequest) -> World:
    built: World = request.param()
    return built


async def test_settling_moves_the_money_and_uses_the_nonce(world: World) -> None:
    payload = sign(requirements(1_500_000), nonce=NONCE)
    assert (await world.facilitator.verify(payload, requirements(1_500_000))).is_valid
    assert not is_closed(world.rpc, AGENT, NONCE)
    settled = await world.facilitator.settle(payload, requirements(1_500_000))
    assert settled.success
    assert settled.payer == AGENT
    assert balance(world.rpc, AGENT) == AGENT_FUNDS - 1_500_000
    assert balance(world.rpc, VENDOR) == 1_500_000
    assert is_closed(world.rpc, AGENT, NONCE)


async def test_a_settlement_shows_in_the_logs_and_its_receipt(world: World) -> None:
    payload = sign(requirements(), nonce=NONCE)
    settled = await world.facilitator.settle(payload, requirements())
    (used,) = logs(world.rpc, AUTHORIZATION_USED_EVENT, AGENT_TOPIC, NONCE)
    (moved,) = logs(world.rpc, TRANSFER_EVENT, AGENT_TOPIC, VENDOR_TOPIC)
    assert used["transactionHash"] == moved["transactionHash"] == settled.transaction
    assert int(moved["data"], 16) == 1_000_000
    assert logs(world.rpc, TRANSFER_EVENT, None, VENDOR_TOPIC) == [moved]
    receipt = world.rpc.call("eth_getTransactionReceipt", [settled.transaction])
    assert receipt["status"] == "0x1"
    assert [log["address"] for log in receipt["logs"]] == [LOCAL_USDC_ADDRESS] * 2
    transaction = world.rpc.call("eth_getTransactionByHash", [settled.transaction])
    assert transaction["blockNumber"] == receipt["blockNumber"] == used["blockNumber"]
    block = world.rpc.call("eth_getBlockByNumber", [receipt["blockNumber"], False])
    assert block["hash"] == receipt["blockHash"]
    assert settled.transaction in block["transactions"]


async def test_a_payment_is_settled_once_and_then_refused(world: World) -> None:
    payload = sign(requirements(), nonce=NONCE)
    authorization, asset = read_authorization(payload.payload), requirements().asset
    assert await world.treasury.settlement(authorization, asset) is None
    first = await world.facilitator.settle(payload, requirements())
    again = await world.facilitator.settle(payload, requirements())
    assert (again.success, again.error_reason) == (False, ERR_NONCE_ALREADY_USED)
    assert await world.treasury.settlement(authorization, asset) == first.transaction
    elsewhere = replace(authorization, to=dev_address("gpu_vendor_2"))
    assert await world.treasury.settlement(elsewhere, asset) == ""
    assert balance(world.rpc, VENDOR) == 1_000_000


async def test_a_nonce_settles_once_whoever_is_paid(world: World) -> None:
    assert (
        await world.facilitator.settle(sign(requirements(), nonce=NONCE), requirements())
    ).success
    other = requirements(2_000_000, to="gpu_vendor_2")
    refused = await world.facilitator.settle(sign(other, nonce=NONCE), other)
    assert (refused.success, refused.error_reason) == (False, ERR_NONCE_ALREADY_USED)
    assert balance(world.rpc, dev_address("gpu_vendor_2")) == 0


async def test_a_cancelled_nonce_reads_as_used_and_never_settles(world: World) -> None:
    world.cancel("agent", NONCE)
    assert is_closed(world.rpc, AGENT, NONCE)
    assert len(logs(world.rpc, AUTHORIZATION_CANCELED_EVENT, AGENT_TOPIC, NONCE)) == 1
    assert logs(world.rpc, AUTHORIZATION_USED_EVENT, AGENT_TOPIC, NONCE) == []
    refused = await world.facilitator.settle(sign(requirements(), nonce=NONCE), requirements())
    assert (refused.success, refused.error_reason) == (False, ERR_NONCE_ALREADY_USED)


async def test_refusals_have_the_same_reasons(world: World) -> None:
    asked = requirements()
    poor = sign(asked, nonce=NONCE, key=dev_key("poor"))
    late = sign(asked, nonce=NONCE, valid_before=int(time.time()) - 1)
    elsewhere = sign(requirements(to="gpu_vendor_2"), nonce=NONCE)
    forged = sign(asked, nonce=NONCE)
    forged.payload["signature"] = "0x" + "11" * 64 + "1b"
    expected = {
        ERR_INSUFFICIENT_BALANCE: poor,
        ERR_VALID_BEFORE_EXPIRED: late,
        ERR_RECIPIENT_MISMATCH: elsewhere,
        ERR_INVALID_SIGNATURE: forged,
    }
    for reason, payload in expected.items():
        verified = await world.facilitator.verify(payload, asked)
        settled = await world.facilitator.settle(payload, asked)
        assert (verified.is_valid, verified.invalid_reason) == (False, reason)
        assert (settled.success, settled.error_reason) == (False, reason)
    assert balance(world.rpc, VENDOR) == 0


async def test_older_blocks_keep_their_answers(world: World) -> None:
    before = world.rpc.call("eth_blockNumber", [])
    await world.facilitator.settle(sign(requirements(), nonce=NONCE), requirements())
    assert balance(world.rpc, VENDOR, before) == 0
    assert balance(world.rpc, AGENT, before) == AGENT_FUNDS
    assert not is_closed(world.rpc, AGENT, NONCE, before)
    after = hex(int(before, 16) + 1)
    assert len(logs(world.rpc, TRANSFER_EVENT, AGENT_TOPIC, first=after)) == 1


async def test_time_can_be_moved_past_a_window(world: World) -> None:
    start = int(world.rpc.call("eth_getBlockByNumber", ["latest", False])["timestamp"], 16)
    world.rpc.call("evm_increaseTime", [400])
    world.rpc.call("evm_mine", [])
    latest = world.rpc.call("eth_getBlockByNumber", ["latest", False])
    assert int(latest["timestamp"], 16) >= start + 400
    until = int(time.time()) + 300
    late = await world.facilitator.settle(
        sign(requirements(), nonce=NONCE, valid_before=until), requirements()
    )
    assert (late.success, late.error_reason) == (False, ERR_VALID_BEFORE_EXPIRED)


async def test_a_plain_transfer_is_a_transfer_without_an_authorization(world: World) -> None:
    tx_hash = world.transfer("agent", VENDOR, 70)
    (moved,) = logs(world.rpc, TRANSFER_EVENT, AGENT_TOPIC)
    assert moved["transactionHash"] == tx_hash
    assert logs(world.rpc, AUTHORIZATION_USED_EVENT) == []
    assert balance(world.rpc, VENDOR) == 70


async def test_what_does_not_exist_is_null_or_an_error(world: World) -> None:
    unknown = "0x" + "ab" * 32
    assert world.rpc.call("eth_getTransactionReceipt", [unknown]) is None
    assert world.rpc.call("eth_getTransactionByHash", [unknown]) is None
    assert world.rpc.call("eth_getBlockByNumber", ["0xffffff", False]) is None
    with pytest.raises(ChainError, match="not found"):
        balance(world.rpc, AGENT, "0xffffff")
    with pytest.raises(Reverted):
        call(world.rpc, b"\xde\xad\xbe\xef", "latest")
    assert world.rpc.call("eth_chainId", []) == "0x7a69"
    assert world.rpc.call("eth_getCode", [VENDOR, "latest"]) == "0x"
    assert len(world.rpc.call("eth_getCode", [LOCAL_USDC_ADDRESS, "latest"])) > 2
