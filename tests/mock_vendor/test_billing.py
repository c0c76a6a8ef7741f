"""One charge and one job for each payment, under repeats, concurrency and crashes."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from fastapi import FastAPI
from x402 import AssetAmount, PaymentPayload, PaymentRequirements, x402Client, x402ResourceServer
from x402.http import (
    PaymentOption,
    RouteConfig,
    decode_payment_required_header,
    decode_payment_response_header,
    decode_payment_signature_header,
)
from x402.http import encode_payment_signature_header as encode
from x402.http.clients.httpx import x402_httpx_transport
from x402.http.middleware.fastapi import payment_middleware
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.constants import (
    ERR_INSUFFICIENT_BALANCE,
    ERR_NONCE_ALREADY_USED,
    ERR_SETTLEMENT_PENDING,
)
from x402.mechanisms.evm.exact import ExactEvmScheme, ExactEvmServerScheme
from x402.schemas import SettleResponse

from mock_vendor.accounts import AGENT_FUNDS, dev_address, dev_key
from mock_vendor.vendor.settings import vendor_profile
from tests.support.memory_chain import MemoryChain
from tests.support.memory_facilitator import MemoryFacilitator

from .shop import VENDOR, header_for, open_shop, sign
from .worlds import requirements


class Crash(BaseException):
    """The process dies here: nothing catches it."""


class Unreliable(MemoryFacilitator):
    """A facilitator whose next settlements go wrong: before or after they reach the chain."""

    def __init__(self, chain: MemoryChain, *plan: tuple[str, BaseException]) -> None:
        super().__init__(chain)
        self.plan = list(plan)
        self.settlements = 0

    async def settle(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> SettleResponse:
        self.settlements += 1
        moment, error = self.plan.pop(0) if self.plan else ("", None)
        if moment == "before" and error:
            raise error
        settled = await super().settle(payload, requirements)
        if error:
            raise error
        return settled


def funded_chain() -> MemoryChain:
    chain = MemoryChain(time.time)
    chain.mint(dev_address("agent"), AGENT_FUNDS)
    return chain


async def test_a_quote_is_the_price_of_the_hours_rounded_to_cents() -> None:
    async with open_shop() as shop:
        quote = await shop.quote(hours=1.5)
        assert quote["priceEstimate"] == 2.1
        assert quote["currency"] == "USD"
        assert quote["etaMinutes"] == 90
        assert quote["expiresAt"].endswith("Z")
        assert (await shop.quote(hours=2, vendor="gpu_vendor_2"))["priceEstimate"] == 3.6


async def test_the_challenge_asks_for_the_quoted_price_in_local_usdc() -> None:
    async with open_shop() as shop:
        body = await shop.submission(hours=2)
        required = await shop.challenge(body)
        terms = required.accepts[0]
        assert (terms.scheme, terms.network) == ("exact", "eip155:31337")
        assert (terms.amount, terms.pay_to) == ("2800000", dev_address(VENDOR))
        assert terms.max_timeout_seconds == 300
        assert terms.extra["quoteId"] == body["vendorJobTemplateId"]
        assert required.extensions is not None
        assert required.extensions["payment-identifier"]["info"]["required"] is False


async def test_a_paid_submission_launches_a_job_and_names_its_transaction() -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        answer = await shop.send(body, await shop.signed(body))
        assert answer.status_code == 200
        assert answer.json()["status"] == "running"
        receipt = decode_payment_response_header(answer.headers["PAYMENT-RESPONSE"])
        assert receipt.transaction == answer.json()["paymentTxId"]
        assert receipt.transaction == shop.chain.transfers[-1].tx_hash
        assert shop.settled() == [2_800_000]


async def test_eight_copies_of_one_payment_are_charged_once() -> None:
    chain = funded_chain()
    facilitator = Unreliable(chain)
    async with open_shop(chain, facilitator=facilitator) as shop:
        body = await shop.submission()
        header = await shop.signed(body)
        answers = await asyncio.gather(*(shop.send(body, header) for _ in range(8)))
        assert [a.status_code for a in answers] == [200] * 8
        assert len({a.text for a in answers}) == 1
        assert facilitator.settlements == 1
        assert shop.settled() == [2_800_000]
        assert sum("x-idempotent-replay" in a.headers for a in answers) == 7


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_around_settling_is_healed_by_sending_the_payment_again(
    moment: str, tmp_path: Path
) -> None:
    chain = funded_chain()
    facilitator = Unreliable(chain, (moment, Crash()))
    async with open_shop(chain, facilitator=facilitator, vendor_data_dir=tmp_path) as shop:
        body = await shop.submission()
        header = await shop.signed(body)
        with pytest.raises(Crash):
            await shop.send(body, header)
    async with open_shop(chain, vendor_data_dir=tmp_path) as restarted:
        answer = await restarted.send(body, header)
        assert answer.status_code == 200
        assert restarted.settled() == [2_800_000]
        assert (await restarted.send(body, header)).json() == answer.json()


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_unknown_outcome_is_503_and_the_same_payment_goes_on_from_there(
    moment: str,
) -> None:
    chain = funded_chain()
    facilitator = Unreliable(chain, (moment, TimeoutError()))
    async with open_shop(chain, facilitator=facilitator) as shop:
        body = await shop.submission()
        header = await shop.signed(body)
        unknown = await shop.send(body, header)
        assert unknown.status_code == 503
        assert unknown.headers["Retry-After"] == "1"
        assert (await shop.send(body, header)).status_code == 200
        assert shop.settled() == [2_800_000]


class Pending(MemoryFacilitator):
    """A facilitator that settles, yet says at first only that it is under way."""

    def __init__(self, chain: MemoryChain) -> None:
        super().__init__(chain)
        self.told = False

    async def settle(
        self, payload: PaymentPayload, requirements: PaymentRequirements
    ) -> SettleResponse:
        settled = await super().settle(payload, requirements)
        first, self.told = not self.told, True
        unsure = {"success": False, "error_reason": ERR_SETTLEMENT_PENDING}
        return settled.model_copy(update=unsure) if first else settled


async def test_a_pending_settlement_is_unknown_and_not_refused() -> None:
    chain = funded_chain()
    async with open_shop(chain, facilitator=Pending(chain)) as shop:
        body = await shop.submission()
        header = await shop.signed(body)
        assert (await shop.send(body, header)).status_code == 503
        assert (await shop.send(body, header)).status_code == 200
        assert shop.settled() == [2_800_000]


async def test_an_unknown_payment_still_holds_its_quote() -> None:
    chain = funded_chain()
    async with open_shop(chain, facilitator=Unreliable(chain, ("after", TimeoutError()))) as shop:
        body = await shop.submission()
        first, second = await shop.signed(body), await shop.signed(body)
        assert (await shop.send(body, first)).status_code == 503
        assert (await shop.send(body, second)).status_code == 409
        assert shop.settled() == [2_800_000]


async def test_a_refused_payment_is_402_with_the_reason_and_stays_refused() -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        header = await shop.signed(body, key=dev_key("poor"))
        for _ in range(2):
            answer = await shop.send(body, header)
            assert answer.status_code == 402
            assert answer.json()["error"] == ERR_INSUFFICIENT_BALANCE
            shop.chain.mint(dev_address("poor"), 10_000_000)
        assert shop.settled() == []


async def test_a_refused_quote_can_be_paid_by_another_payment() -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        assert (await shop.send(body, await shop.signed(body, key=dev_key("poor")))).is_error
        assert (await shop.send(body, await shop.signed(body))).status_code == 200


async def test_a_nonce_that_paid_someone_else_is_refused() -> None:
    async with open_shop() as shop:
        nonce = b"n" * 32
        body = await shop.submission()
        assert (await shop.send(body, await shop.signed(body, nonce=nonce))).status_code == 200
        other = await shop.submission(vendor="gpu_vendor_2")
        required = await shop.challenge(other, vendor="gpu_vendor_2")
        header = header_for(required, "payment_elsewhere_1", nonce=nonce)
        answer = await shop.send(other, header, vendor="gpu_vendor_2")
        assert (answer.status_code, answer.json()["error"]) == (402, ERR_NONCE_ALREADY_USED)


async def test_an_authorization_that_bought_one_job_buys_no_other() -> None:
    async with open_shop() as shop:
        first, second = await shop.submission(), await shop.submission()
        nonce = b"n" * 32
        assert (await shop.send(first, await shop.signed(first, nonce=nonce))).status_code == 200
        answer = await shop.send(second, await shop.signed(second, nonce=nonce))
        assert answer.status_code == 409
        assert shop.settled() == [2_800_000]


@pytest.mark.parametrize("change", ["body", "nonce", "quote"])
async def test_a_payment_identifier_with_another_payload_is_409(change: str) -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        required = await shop.challenge(body)
        pay_id = "payment_number_one"
        assert (await shop.send(body, header_for(required, pay_id))).status_code == 200
        header = header_for(required, pay_id)
        if change == "body":
            body = body | {"jobParams": {"seed": 7}}
        elif change == "nonce":
            header = header_for(required, pay_id, nonce=b"m" * 32)
        else:
            body = await shop.submission()
            header = header_for(await shop.challenge(body), pay_id)
        assert (await shop.send(body, header)).status_code == 409
        assert shop.settled() == [2_800_000]


async def test_the_stored_answer_goes_only_to_the_signature_that_paid() -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        header = await shop.signed(body)
        assert (await shop.send(body, header)).status_code == 200
        payload: Any = decode_payment_signature_header(header)
        forged = payload.payload | {"signature": "0x" + "11" * 64 + "1b"}
        answer = await shop.send(body, encode(payload.model_copy(update={"payload": forged})))
        assert answer.status_code == 403
        assert "vendorJobId" not in answer.text


async def test_a_forged_signature_is_refused_and_leaves_the_identifier_free() -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        header = await shop.signed(body)
        payload: Any = decode_payment_signature_header(header)
        forged = payload.payload | {"signature": "0x" + "11" * 64 + "1b"}
        answer = await shop.send(body, encode(payload.model_copy(update={"payload": forged})))
        assert answer.status_code == 402
        assert (await shop.send(body, header)).status_code == 200


async def test_a_payment_without_an_identifier_is_named_by_its_authorization() -> None:
    async with open_shop() as shop:
        body, other = await shop.submission(), await shop.submission()
        payload: Any = decode_payment_signature_header(await shop.signed(body))
        header = encode(payload.model_copy(update={"extensions": None}))
        first, again = await shop.send(body, header), await shop.send(body, header)
        assert (first.status_code, again.json()) == (200, first.json())
        assert (await shop.send(other, header)).status_code == 409
        assert shop.settled() == [2_800_000]


@pytest.mark.parametrize("identifier", ["too short", "x" * 129, "spaces are not allowed", 7])
async def test_an_identifier_that_is_none_is_400(identifier: object) -> None:
    async with open_shop() as shop:
        body = await shop.submission()
        payload: Any = decode_payment_signature_header(await shop.signed(body))
        named = {"payment-identifier": {"info": {"required": False, "id": identifier}}}
        answer = await shop.send(body, encode(payload.model_copy(update={"extensions": named})))
        assert answer.status_code == 400
        assert shop.settled() == []


async def test_a_payment_whose_answer_was_lost_buys_after_its_time_is_over() -> None:
    now = [1_900_000_000.0]
    chain = MemoryChain(lambda: now[0])
    chain.mint(dev_address("agent"), AGENT_FUNDS)
    facilitator = Unreliable(chain, ("after", TimeoutError()))
    async with open_shop(chain, facilitator=facilitator, clock=lambda: now[0]) as shop:
        body = await shop.submission()
        header = await shop.signed(body, valid_before=int(now[0]) + 60)
        assert (await shop.send(body, header)).status_code == 503
        now[0] += 300
        answer = await shop.send(body, header)
        assert answer.status_code == 200
        assert answer.json()["paymentTxId"] == chain.transfers[-1].tx_hash
        assert shop.settled() == [2_800_000]


async def test_the_official_python_client_buys() -> None:
    buyer = x402Client()
    buyer.register(
        "eip155:31337", ExactEvmScheme(EthAccountSigner(Account.from_key(dev_key("agent"))))
    )
    buyer.set_spend_controls(False)
    async with open_shop() as shop:
        body = await shop.submission()
        transport = x402_httpx_transport(buyer, httpx.ASGITransport(shop.app))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://vendor", headers=shop.client.headers
        ) as client:
            answer = await client.post("/submit-job", json=body)
        assert answer.status_code == 200, answer.text
        assert shop.settled() == [2_800_000]


async def test_behind_a_stock_seller_one_payment_buys_once() -> None:
    chain = MemoryChain(time.time)
    chain.mint(dev_address("agent"), AGENT_FUNDS)
    till = x402ResourceServer(MemoryFacilitator(chain))
    scheme: Any = ExactEvmServerScheme()  # type: ignore[no-untyped-call]
    till.register("eip155:31337", scheme)
    seller = FastAPI()
    terms = requirements()
    price = AssetAmount(amount=terms.amount, asset=terms.asset, extra=terms.extra)
    option = PaymentOption(scheme="exact", pay_to=terms.pay_to, price=price, network=terms.network)
    routes = {"GET /thing": RouteConfig(accepts=option)}
    seller.middleware("http")(payment_middleware(routes, till))

    verified = asyncio.Barrier(3)

    @seller.get("/thing")
    async def thing() -> dict[str, str]:
        await verified.wait()  # it settles after the work, so all three are at it by then
        return {"weather": "sunny"}

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(seller), base_url="http://seller"
    ) as client:
        asked = await client.get("/thing")
        required: Any = decode_payment_required_header(asked.headers["PAYMENT-REQUIRED"])
        header = encode(sign(required.accepts[0], nonce=b"n" * 32))
        paying = {"PAYMENT-SIGNATURE": header}
        answers = await asyncio.gather(*(client.get("/thing", headers=paying) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 402, 402]
    assert len([transfer for transfer in chain.transfers if transfer.nonce]) == 1


async def test_an_expired_quote_takes_no_payment_but_finishes_one_it_took() -> None:
    now = [1_900_000_000.0]
    chain = MemoryChain(lambda: now[0])
    chain.mint(dev_address("agent"), AGENT_FUNDS)
    facilitator = Unreliable(chain, ("after", TimeoutError()))
    async with open_shop(chain, facilitator=facilitator, clock=lambda: now[0]) as shop:
        late, taken = await shop.submission(), await shop.submission()
        until = int(now[0]) + 3000
        late_header = await shop.signed(late, valid_before=until)
        taken_header = await shop.signed(taken, valid_before=until)
        assert (await shop.send(taken, taken_header)).status_code == 503
        now[0] += 601
        assert (await shop.send(late, late_header)).status_code == 410
        assert (await shop.send(taken, taken_header)).status_code == 200
        assert shop.settled() == [2_800_000]


async def test_a_vendor_without_payment_launches_once_for_a_quote() -> None:
    vendors = (vendor_profile("free", "Free", "1", rail="none"),)
    async with open_shop(vendors=vendors) as shop:
        body = await shop.submission(vendor="free")
        headers = {"x-vendor-id": "free"}
        first = await shop.client.post("/submit-job", json=body, headers=headers)
        again = await shop.client.post("/submit-job", json=body, headers=headers)
        assert first.status_code == 200
        assert first.json() == again.json()
        assert "paymentTxId" not in first.json()


async def test_a_legacy_vendor_wants_its_own_transaction_id_back() -> None:
    vendors = (vendor_profile("old", "Old", "1", rail="legacy402"),)
    async with open_shop(vendors=vendors) as shop:
        body = await shop.submission(vendor="old")
        headers = {"x-vendor-id": "old"}
        asked = await shop.client.post("/submit-job", json=body, headers=headers)
        assert asked.status_code == 402
        assert "PAYMENT-REQUIRED" not in asked.headers
        paid = body | {"x402TxId": asked.headers["x402-tx-id"]}
        answer = await shop.client.post("/submit-job", json=paid, headers=headers)
        assert answer.status_code == 200
