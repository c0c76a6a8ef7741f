"""pay: reserve, check the challenge, sign, persist; nothing that pays is sent before that."""

from __future__ import annotations

import httpx
import pytest

from domain.ids import slot_nonce
from domain.money import Usd
from domain.payments import PaymentState
from domain.quotes import Rail
from mock_vendor.vendor.settings import Rail as VendorRail
from mock_vendor.vendor.settings import vendor_profile
from tests.support.builders import check_books
from tests.support.stack import FreshDatabase
from tests.support.world import AGENT, World, Wraps
from tools.payments.wallets import TypedData, Wallet


class Watched(httpx.AsyncBaseTransport):
    """HTTP that keeps what was sent to submit-job with a payment, and what the ledger held then."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.paid: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if header := request.headers.get("PAYMENT-SIGNATURE"):
            self.paid.append(header)
        return await self._inner.handle_async_request(request)


class CountingWallet:
    """A wallet that counts its signatures."""

    def __init__(self, inner: Wallet) -> None:
        self._inner = inner
        self.signed: list[TypedData] = []

    @property
    def address(self) -> str:
        return self._inner.address

    async def sign_typed_data(self, typed_data: TypedData) -> str:
        self.signed.append(typed_data)
        return await self._inner.sign_typed_data(typed_data)


async def test_what_is_sent_is_what_was_persisted_and_signed_once(database: FreshDatabase) -> None:
    sent: list[Watched] = []
    wallets: list[CountingWallet] = []

    def watch(inner: httpx.AsyncBaseTransport) -> Watched:
        sent.append(Watched(inner))
        return sent[-1]

    def count(inner: Wallet) -> CountingWallet:
        wallets.append(CountingWallet(inner))
        return wallets[-1]

    async with World.open(database, wrap=Wraps(http=watch, wallet=count)) as world:
        world.vendor_fault("gpu_vendor_1", "submit-job", "hang", times=1, when="payment")
        run = await world.start()
        await world.tick(run)
        assert await world.tick(run) == "Job started"
        [payment] = await world.payments(run)
        assert sent[0].paid == [payment.header] * 2
        [signed] = wallets[0].signed
        assert signed.nonce == payment.nonce == slot_nonce(run.id, 0)
        assert signed.value == payment.amount.micros == 1_400_000


CROOKED = ["price_above_quote", "wrong_pay_to", "wrong_asset", "wrong_network"]


@pytest.mark.parametrize("fault", [*CROOKED, "malformed_402", "redirect", "oversized_body"])
async def test_a_crooked_challenge_is_not_signed_and_another_vendor_is_taken(
    database: FreshDatabase, fault: str
) -> None:
    async with World.open(database) as world:
        world.vendor_fault("gpu_vendor_1", "submit-job", fault)
        run = await world.start()
        assert (await world.tick(run)).startswith("Vendor failed: ")
        assert (await world.run(run)).budget_remaining == run.budget_total
        assert await world.tick(run) == "Job started"
        assert await world.payment_states(run) == [
            ("gpu_vendor_1", PaymentState.RELEASED),
            ("gpu_vendor_2", PaymentState.SETTLED),
        ]
        assert [t.value for t in world.transfers()] == [1_800_000]
        check_books(await world.run(run))


async def test_a_vendor_without_a_registered_address_is_not_paid(database: FreshDatabase) -> None:
    profile = vendor_profile("gpu_vendor_1", "FastGPU", "1.4")
    async with World.open(database, vendors=(profile,)) as world:
        await world.register(profile, pay_to=None)
        run = await world.start()
        assert "payee" in await world.tick(run)
        assert world.transfers() == []


async def test_an_empty_wallet_waits_for_funds_and_goes_on_when_they_come(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        funds = world.chain.balance_of(AGENT)
        world.chain.transfer(AGENT, "0x" + "11" * 20, funds)
        run = await world.start()
        assert (await world.tick(run)).startswith("Waiting for funds: ")
        assert (await world.run(run)).budget_remaining == run.budget_total
        noted = []
        for _ in range(4):
            assert (await world.tick(run)).startswith("Waiting for funds: ")
            noted.append(len(await world.ledger.observations.of_run(run.id)))
        assert noted[-1] == noted[0], "what is found as it was is not noted again and again"
        assert len(await world.told(run, "payment_not_made")) == 1
        world.chain.mint(AGENT, funds)
        assert await world.tick(run) == "Job started"
        assert (await world.payments(run))[-1].state is PaymentState.SETTLED


async def test_the_price_is_booked_as_the_chain_has_it(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.tick(run)
        after = await world.run(run)
        [transfer], [payment] = world.transfers(), await world.payments(run)
        assert after.spent == payment.amount == Usd(transfer.value)
        assert payment.tx_id == transfer.tx_hash
        assert after.reservations == ()


@pytest.mark.parametrize("rail", ["none", "legacy402"])
async def test_a_vendor_billed_outside_x402_is_booked_and_nothing_settles(
    database: FreshDatabase, rail: VendorRail
) -> None:
    profile = vendor_profile("gpu_vendor_1", "FastGPU", "1.4", rail=rail)
    async with World.open(database, vendors=(profile,)) as world:
        run = await world.start()
        messages = await world.ticks(run)
        assert messages[0] == "Job started"
        assert messages[-1] == "Job completed"
        [payment] = await world.payments(run)
        assert (payment.state, payment.rail) == (PaymentState.SETTLED, Rail.NONE)
        assert payment.tx_id is not None
        assert payment.tx_id.startswith("local_tx_" if rail == "none" else "legacy_")
        assert world.transfers() == []
        after = await world.run(run)
        check_books(after)
        assert after.spent == Usd.parse("1.4")


async def test_the_signed_header_is_in_no_journal_and_no_checkpoint(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        await world.ticks(run)
        [payment] = await world.payments(run)
        for name in ("observations", "checkpoints", "checkpoint_writes", "jobs", "runs"):
            documents = await database.db[name].find().to_list()
            assert payment.header not in repr(documents), name
