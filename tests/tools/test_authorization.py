import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
from eth_account import Account
from x402.http.utils import decode_payment_signature_header
from x402.schemas.payments import PaymentPayload
from x402.schemas.v1 import PaymentPayloadV1

from domain.errors import InvalidInput, PolicyRefused, WalletDown
from domain.ids import slot_nonce
from domain.money import Usd
from domain.networks import BASE
from domain.payments import PaymentTerms
from tests.tools.builders import (
    AGENT,
    AGENT_KEY,
    NETWORK,
    NONCE,
    PAYEE,
    PAYMENT_ID,
    STRANGER,
    challenge_json,
    challenge_v1_json,
    decoded,
    encoded,
    requirement,
)
from tools.payments.authorization import SignedPayment, sign_payment
from tools.payments.challenge import Challenge, read_challenge
from tools.payments.wallets import LocalWallet, TypedData, Wallet

UNTIL = 1_800_000_000


def challenge_of(value: dict[str, object]) -> Challenge:
    challenge = read_challenge({"payment-required": encoded(value)}, b"")
    assert challenge is not None
    return challenge


async def signed(
    challenge: Challenge,
    *,
    wallet: Wallet | None = None,
    terms: PaymentTerms | None = None,
    nonce: str = NONCE,
    valid_before_s: int = UNTIL,
    payment_id: str = PAYMENT_ID,
) -> SignedPayment:
    return await sign_payment(
        wallet or LocalWallet(AGENT_KEY),
        NETWORK,
        challenge,
        terms or challenge.accepts[0],
        nonce=nonce,
        valid_before_s=valid_before_s,
        payment_id=payment_id,
    )


async def test_the_signature_is_the_payers_over_our_values_and_the_pinned_token() -> None:
    nonce = slot_nonce("run_1", 0)
    payment = await signed(challenge_of(challenge_json()), nonce=nonce)
    payload = decode_payment_signature_header(payment.header)
    assert isinstance(payload, PaymentPayload)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # web3 imports websockets.legacy
        from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
        from x402.mechanisms.evm.types import ExactEIP3009Payload
    exact = ExactEIP3009Payload.from_dict(payload.payload)
    assert vars(exact.authorization) == {
        "from_address": AGENT,
        "to": PAYEE,
        "value": "2100000",
        "valid_after": "0",
        "valid_before": str(UNTIL),
        "nonce": nonce,
    }
    digest = hash_eip3009_authorization(
        exact.authorization,
        NETWORK.chain_id,
        NETWORK.usdc,
        NETWORK.eip712_name,
        NETWORK.eip712_version,
    )
    assert Account._recover_hash(digest, signature=exact.signature) == AGENT
    assert payload.accepted.model_dump(by_alias=True) == requirement()


async def test_what_was_signed_is_told_and_the_header_stays_out_of_the_repr() -> None:
    payment = await signed(challenge_of(challenge_json()))
    assert payment.header_name == "PAYMENT-SIGNATURE"
    assert (payment.payer, payment.pay_to, payment.amount) == (AGENT, PAYEE, Usd(2_100_000))
    assert (payment.nonce, payment.valid_before_s) == (NONCE, UNTIL)
    assert payment.header.isascii()
    assert payment.header not in repr(payment)


async def test_the_same_inputs_give_the_same_bytes() -> None:
    first = await signed(challenge_of(challenge_json()))
    second = await signed(challenge_of(challenge_json()))
    assert first == second


async def test_the_payment_identifier_is_set_when_the_challenge_declares_it() -> None:
    payload = decoded((await signed(challenge_of(challenge_json()))).header)
    assert payload["extensions"] == {
        "payment-identifier": {"info": {"required": True, "id": PAYMENT_ID}, "schema": {}}
    }


@pytest.mark.parametrize(
    "extensions",
    [
        None,
        {},
        {"other": {"a": 1}},
        {"payment-identifier": {}},
        {"payment-identifier": "info"},
        {"payment-identifier": {"info": {"required": "yes"}, "schema": {}}},
    ],
)
async def test_undeclared_it_is_left_out_and_other_extensions_are_echoed(
    extensions: dict[str, object] | None,
) -> None:
    payload = decoded((await signed(challenge_of(challenge_json(extensions=extensions)))).header)
    assert payload.get("extensions") == extensions


def test_what_is_slow_to_load_is_not_loaded_to_pay() -> None:
    slow = ["jsonschema", "cdp", "web3"]
    look = f"import sys, server.wiring; print([m for m in {slow} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n", "loading it takes seconds, at each start of a server"


async def test_signing_leaves_the_challenge_as_it_was() -> None:
    challenge = challenge_of(challenge_json())
    before = challenge.document.model_dump_json()
    await signed(challenge)
    assert challenge.document.model_dump_json() == before


async def test_a_v1_challenge_is_answered_in_v1() -> None:
    challenge = challenge_of(challenge_v1_json())
    payment = await signed(challenge)
    payload = decode_payment_signature_header(payment.header)
    assert payment.header_name == "X-PAYMENT"
    assert isinstance(payload, PaymentPayloadV1)
    assert (payload.scheme, payload.network) == ("exact", NETWORK.x402_v1_name)
    assert payload.payload["authorization"]["nonce"] == NONCE


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"scheme": "upto"}, "scheme"),
        ({"network": BASE.caip2}, "network"),
        ({"asset": STRANGER}, "asset"),
        ({"payTo": "0x" + "0" * 40}, "payee"),
        ({"payTo": "gpu.eth"}, "payee"),
        ({"amount": "0"}, "amount"),
    ],
)
async def test_terms_outside_the_policy_are_not_signed(
    changes: dict[str, object], rule: str
) -> None:
    with pytest.raises(PolicyRefused) as refusal:
        await signed(challenge_of(challenge_json(requirement(**changes))))
    assert refusal.value.rule == rule


async def test_terms_that_the_challenge_does_not_hold_are_not_signed() -> None:
    challenge = challenge_of(challenge_json())
    with pytest.raises(PolicyRefused):
        await signed(challenge, terms=replace(challenge.accepts[0], pay_to=STRANGER))


@pytest.mark.parametrize("nonce", ["", "0x12", "ab" * 32, "0x" + "AB" * 32, "0x" + "zz" * 32])
async def test_a_bad_nonce_is_not_signed(nonce: str) -> None:
    with pytest.raises(InvalidInput, match="nonce"):
        await signed(challenge_of(challenge_json()), nonce=nonce)


@pytest.mark.parametrize("valid_before_s", [0, -1, 2**255])
async def test_a_bad_time_is_not_signed(valid_before_s: int) -> None:
    with pytest.raises(InvalidInput, match="valid_before_s"):
        await signed(challenge_of(challenge_json()), valid_before_s=valid_before_s)


async def test_a_bad_payment_id_is_not_signed() -> None:
    with pytest.raises(InvalidInput, match="payment_id"):
        await signed(challenge_of(challenge_json()), payment_id="short")


class ForgingWallet:
    """Says one address and answers whatever it was given."""

    address = AGENT

    def __init__(self, answer: Wallet | str) -> None:
        self._answer = answer

    async def sign_typed_data(self, typed_data: TypedData) -> str:
        if isinstance(self._answer, str):
            return self._answer
        return await self._answer.sign_typed_data(typed_data)


@pytest.mark.parametrize(
    "answer",
    [
        LocalWallet("0x" + "77" * 32),
        "",
        "0x",
        "nonsense",
        "0x" + "00" * 65,
        "0x" + "ff" * 64 + "1b",
    ],
)
async def test_a_signature_that_is_not_the_payers_is_refused(answer: Wallet | str) -> None:
    with pytest.raises(WalletDown, match="signature"):
        await signed(challenge_of(challenge_json()), wallet=ForgingWallet(answer))
