"""The facilitator on the EVM chain: lost broadcasts, lost answers, and its HTTP face."""

from typing import Any

import httpx
import pytest
from web3 import Web3
from web3.types import RPCEndpoint, RPCResponse
from x402.mechanisms.evm.constants import ERR_NONCE_ALREADY_USED

from mock_vendor.accounts import dev_address
from mock_vendor.chain.chain import LocalChain
from mock_vendor.chain.rpc import JsonRpc
from mock_vendor.facilitator.app import create_facilitator_app
from mock_vendor.facilitator.authorization import read_authorization
from mock_vendor.facilitator.facilitator import LocalFacilitator
from mock_vendor.vendor.treasury import EvmTreasury
from tests.support.chain_provider import InProcessProvider
from tests.support.memory_facilitator import MemoryFacilitator

from .shop import sign
from .worlds import MemoryWorld, balance, requirements

VENDOR = dev_address("gpu_vendor_1")
BROADCAST = "eth_sendRawTransaction"


class Flaky(InProcessProvider):
    """A connection that breaks on planned calls, before or after the chain has acted."""

    def __init__(self, chain: LocalChain) -> None:
        super().__init__(chain)
        self.plan: list[tuple[str, str]] = []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        moment = ""
        if self.plan and self.plan[0][0] == method:
            moment = self.plan.pop(0)[1]
        if moment == "before":
            raise ConnectionError("the request was lost")
        answer = super().make_request(method, params)
        if moment == "after":
            raise ConnectionError("the answer was lost")
        return answer


async def test_a_failed_broadcast_leaves_no_gap_in_the_transaction_nonces() -> None:
    chain = LocalChain()
    flaky = Flaky(chain)
    facilitator = LocalFacilitator(Web3(flaky), confirmation_timeout_s=1)
    flaky.plan = [(BROADCAST, "before")]
    lost = sign(requirements(), nonce=b"a" * 32)
    assert not (await facilitator.settle(lost, requirements())).success
    for nonce in (b"b", b"c"):
        payload = sign(requirements(), nonce=nonce * 32)
        assert (await facilitator.settle(payload, requirements())).success
    assert (await facilitator.settle(lost, requirements())).success
    assert balance(JsonRpc(chain), VENDOR) == 3_000_000


@pytest.mark.parametrize("lost", [BROADCAST, "eth_getTransactionReceipt"])
async def test_a_settlement_whose_answer_was_lost_is_found_on_the_chain(lost: str) -> None:
    chain = LocalChain()
    flaky = Flaky(chain)
    first = LocalFacilitator(Web3(flaky), confirmation_timeout_s=1)
    flaky.plan = [(lost, "after")]
    payload = sign(requirements(), nonce=b"a" * 32)
    assert not (await first.settle(payload, requirements())).success
    assert balance(JsonRpc(chain), VENDOR) == 1_000_000
    restarted = LocalFacilitator(Web3(flaky), confirmation_timeout_s=1)
    for facilitator in (first, restarted):
        again = await facilitator.settle(payload, requirements())
        assert again.success or again.error_reason == ERR_NONCE_ALREADY_USED
    tx_hash = await EvmTreasury(Web3(flaky)).settlement(
        read_authorization(payload.payload), requirements().asset
    )
    assert tx_hash
    assert JsonRpc(chain).call("eth_getTransactionReceipt", [tx_hash])
    assert balance(JsonRpc(chain), VENDOR) == 1_000_000


async def test_an_unreachable_chain_is_503_and_no_verdict() -> None:
    flaky = Flaky(LocalChain())
    flaky.plan = [("eth_call", "before")]
    app = create_facilitator_app(LocalFacilitator(Web3(flaky)))
    async with client_of(app) as client:
        answer = await client.post("/settle", json=v2_body(b"a" * 32))
    assert answer.status_code == 503
    assert "success" not in answer.json()


async def test_http_takes_bodies_of_both_versions() -> None:
    world = MemoryWorld()
    async with client_of(create_facilitator_app(MemoryFacilitator(world.chain))) as client:
        kinds = (await client.get("/supported")).json()["kinds"]
        assert kinds == [{"x402Version": 2, "scheme": "exact", "network": "eip155:31337"}]
        new, old = v2_body(b"a" * 32), v1_body(b"b" * 32)
        assert (await client.post("/verify", json=new)).json()["isValid"] is True
        assert (await client.post("/settle", json=new)).json()["success"] is True
        assert (await client.post("/verify", json=old)).json()["isValid"] is True
        assert (await client.post("/settle", json=old)).json()["success"] is True
        assert (await client.post("/settle", json={"x402Version": 2})).status_code == 400
        named = v1_body(b"c" * 32)
        for part in ("paymentPayload", "paymentRequirements"):
            named[part]["network"] = "local"
        assert (await client.post("/verify", json=named)).json()["isValid"] is True
        for part in ("paymentPayload", "paymentRequirements"):
            named[part]["network"] = "dogecoin"
        refused = await client.post("/verify", json=named)
        assert (refused.status_code, "dogecoin" in refused.json()["error"]) == (400, True)
    assert world.chain.balance_of(VENDOR) == 2_000_000


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://facilitator")


def v2_body(nonce: bytes) -> dict[str, Any]:
    asked = requirements()
    return {
        "x402Version": 2,
        "paymentPayload": sign(asked, nonce=nonce).model_dump(by_alias=True, exclude_none=True),
        "paymentRequirements": asked.model_dump(by_alias=True),
    }


def v1_body(nonce: bytes) -> dict[str, Any]:
    asked = requirements()
    payload = {"scheme": "exact", "network": asked.network}
    old = {
        "scheme": "exact",
        "network": asked.network,
        "maxAmountRequired": asked.amount,
        "resource": "http://vendor/submit-job",
        "payTo": asked.pay_to,
        "maxTimeoutSeconds": 300,
        "asset": asked.asset,
        "extra": asked.extra,
    }
    return {
        "x402Version": 1,
        "paymentPayload": {
            **payload,
            "x402Version": 1,
            "payload": sign(asked, nonce=nonce).payload,
        },
        "paymentRequirements": old,
    }
