"""Unused paid time goes back to its payer on the chain, exactly once, whatever crashes."""

import asyncio
import time
from decimal import Decimal
from pathlib import Path

import pytest
from web3 import Web3

from mock_vendor.accounts import AGENT_FUNDS, dev_address
from mock_vendor.chain.chain import LocalChain
from mock_vendor.chain.rpc import JsonRpc
from mock_vendor.vendor.records import Refund
from mock_vendor.vendor.settings import VendorProfile, vendor_profile
from mock_vendor.vendor.store import Store
from mock_vendor.vendor.treasury import EvmTreasury, Refunds, SignedTransfer
from tests.support.chain_provider import InProcessProvider
from tests.support.memory_chain import MemoryChain
from tests.support.memory_treasury import MemoryTreasury

from .shop import VENDOR, open_shop
from .worlds import EvmWorld, balance

AGENT = dev_address("agent")


class Crash(BaseException):
    """The process dies here."""


class Fragile(MemoryTreasury):
    """A treasury that dies at one step, once."""

    def __init__(self, chain: MemoryChain, step: str) -> None:
        super().__init__(chain)
        self.step = step

    def die(self, step: str) -> None:
        if self.step == step:
            self.step = ""
            raise Crash

    async def sign(self, vendor: VendorProfile, to: str, amount: int, key: str) -> SignedTransfer:
        self.die("before signing")
        return await super().sign(vendor, to, amount, key)

    async def broadcast(self, transfer: SignedTransfer) -> None:
        self.die("before broadcast")
        await super().broadcast(transfer)
        self.die("after broadcast")


async def test_cancelling_refunds_the_unused_time_on_the_chain() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(hours=2)
        await shop.status(job_id)
        answer = (await shop.cancel(job_id)).json()
        refund = shop.chain.transfers[-1]
        assert answer["status"] == "cancelled"
        assert answer["refund"] == {"amount": refund.value / 1e6, "txHash": refund.tx_hash}
        assert (refund.sender, refund.recipient) == (dev_address(VENDOR), AGENT)
        assert refund.value == 2_800_000 * 2 // 3
        after = await shop.status(job_id)
        assert (after["status"], after["progress"]) == ("failed", 0.3333)
        assert after["refund"] == answer["refund"]


async def test_cancelling_again_or_at_once_refunds_nothing_more() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched()
        answers = await asyncio.gather(*(shop.cancel(job_id) for _ in range(5)))
        assert len({a.text for a in answers}) == 1
        assert shop.chain.balance_of(AGENT) == AGENT_FUNDS


async def test_a_completed_job_cannot_be_cancelled() -> None:
    async with open_shop() as shop:
        job_id = await shop.launched(epochs=1)
        await shop.status(job_id)
        assert (await shop.cancel(job_id)).status_code == 409
        assert len(shop.chain.transfers) == 2


@pytest.mark.parametrize("step", ["before signing", "before broadcast", "after broadcast"])
async def test_a_crash_on_the_way_does_not_lose_or_double_the_refund(
    step: str, tmp_path: Path
) -> None:
    chain = MemoryChain(time.time)
    chain.mint(AGENT, AGENT_FUNDS)
    treasury = Fragile(chain, step)
    async with open_shop(chain, treasury=treasury, vendor_data_dir=tmp_path) as shop:
        job_id = await shop.launched()
        with pytest.raises(Crash):
            await shop.cancel(job_id)
    async with open_shop(chain, vendor_data_dir=tmp_path) as restarted:
        answer = await restarted.cancel(job_id)
        assert answer.json()["refund"]["amount"] == 2.8
        assert chain.balance_of(AGENT) == AGENT_FUNDS


async def test_a_failed_job_is_refunded_when_asked() -> None:
    async with open_shop(fail_vendor_id=VENDOR) as shop:
        job_id = await shop.launched(epochs=4)
        polls = [await shop.status(job_id) for _ in range(3)]
        assert polls[-1]["status"] == "failed"
        assert "refund" not in polls[-1]
        assert (await shop.cancel(job_id)).json()["refund"]["amount"] == 1.4


async def test_a_failed_job_is_refunded_unasked_when_so_set() -> None:
    async with open_shop(fail_vendor_id=VENDOR, refund_on_failure=True) as shop:
        job_id = await shop.launched(epochs=4)
        polls = [await shop.status(job_id) for _ in range(4)]
        assert polls[2]["refund"] == polls[3]["refund"]
        assert polls[2]["refund"]["amount"] == 1.4
        assert shop.chain.balance_of(AGENT) == AGENT_FUNDS - 1_400_000


async def test_refunds_on_the_evm_are_sent_once_also_after_their_place_was_taken() -> None:
    world = EvmWorld()
    world.transfer("agent", dev_address(VENDOR), 10_000_000)
    treasury = EvmTreasury(Web3(InProcessProvider(world.chain)))
    vendor = vendor_profile(VENDOR, "FastGPU", Decimal("1.4"))
    store = Store()
    signed_before_crash = await treasury.sign(vendor, AGENT, 1_000_000, "a")
    raw, tx_hash = signed_before_crash.raw, signed_before_crash.tx_hash
    store.save_refund(Refund("job_a", VENDOR, AGENT, 1_000_000, raw, tx_hash))
    world.transfer(VENDOR, AGENT, 1)
    refunds = Refunds(store, treasury)
    first = await refunds.send(vendor, "job_a", AGENT, 1_000_000)
    assert first.tx_hash != tx_hash
    assert await refunds.send(vendor, "job_a", AGENT, 1_000_000) == first
    store.save_refund(Refund("job_a", VENDOR, AGENT, 1_000_000, first.raw, first.tx_hash))
    assert await refunds.send(vendor, "job_a", AGENT, 1_000_000) == first
    second = await refunds.send(vendor, "job_b", AGENT, 2_000_000)
    assert second.tx_hash != first.tx_hash
    assert balance(world.rpc, dev_address(VENDOR)) == 10_000_000 - 1 - 3_000_000
    store.close()


class DyingEvmTreasury(EvmTreasury):
    """Dies right after its first broadcast, before anybody is told."""

    died = False

    async def broadcast(self, transfer: SignedTransfer) -> None:
        await super().broadcast(transfer)
        if not self.died:
            self.died = True
            raise Crash


async def test_a_refund_broadcast_just_before_a_crash_is_recognised_on_the_evm() -> None:
    chain = LocalChain()
    rpc = JsonRpc(chain)
    treasury = DyingEvmTreasury(Web3(InProcessProvider(chain)))
    agent = vendor_profile("agent", "pays from the funded account", "1")
    store = Store()
    with pytest.raises(Crash):
        await Refunds(store, treasury).send(agent, "job_x", dev_address("poor"), 5)
    again = await Refunds(store, treasury).send(agent, "job_x", dev_address("poor"), 5)
    assert again.sent
    assert balance(rpc, dev_address("poor")) == 5
    store.close()


async def test_a_stored_refund_that_was_never_broadcast_is_sent_as_it_is() -> None:
    chain = LocalChain()
    rpc = JsonRpc(chain)
    treasury = EvmTreasury(Web3(InProcessProvider(chain)))
    agent = vendor_profile("agent", "pays from the funded account", "1")
    transfer = await treasury.sign(agent, dev_address("poor"), 5, "x")
    store = Store()
    store.save_refund(
        Refund("job_x", "agent", dev_address("poor"), 5, transfer.raw, transfer.tx_hash)
    )
    later = await Refunds(store, treasury).send(agent, "job_y", dev_address("poor"), 7)
    kept = store.refund("job_x")
    assert kept is not None
    assert (kept.sent, kept.tx_hash) == (True, transfer.tx_hash)
    assert later.sent
    assert balance(rpc, dev_address("poor")) == 12
    store.close()
