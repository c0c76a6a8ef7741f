"""Taking payment over x402: at most one charge and one delivery per payment identifier.

The row is written before anything is settled. Whatever happens in between (a crash, a lost
answer, a repeat), the same signed payment sent again goes on from the row: a facilitator that has
settled it refuses to do so again, the chain then says by which transaction, and settlement and
delivery are recorded in one transaction.

A payment without an identifier gets one of payer and nonce, which the token lets settle once.
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from x402 import PaymentPayload, PaymentRequirements
from x402.extensions.payment_identifier import PAYMENT_IDENTIFIER, is_valid_payment_id
from x402.http import (
    PAYMENT_RESPONSE_HEADER,
    decode_payment_signature_header,
    encode_payment_response_header,
)
from x402.mechanisms.evm import constants as evm
from x402.schemas import SettleResponse

from mock_vendor.facilitator.app import FacilitatorClient
from mock_vendor.facilitator.authorization import (
    Authorization,
    MalformedAuthorization,
    mismatch,
    read_authorization,
)
from mock_vendor.vendor.challenge import (
    Purchase,
    challenge_error,
    crooked,
    not_offered,
    requirements_for,
)
from mock_vendor.vendor.faults import FaultName
from mock_vendor.vendor.locks import KeyedLocks
from mock_vendor.vendor.problems import DroppedConnection, VendorError
from mock_vendor.vendor.records import Payment
from mock_vendor.vendor.store import Conflict, Store

RETRY_AFTER_S: Final = 1

UNKNOWN_OUTCOMES: Final = frozenset(
    {
        evm.ERR_SETTLEMENT_PENDING,
        evm.ERR_TRANSACTION_FAILED,
        evm.ERR_TRANSACTION_SIMULATION_FAILED,
        evm.ERR_FAILED_TO_VERIFY_SIGNATURE,
        "unexpected_settle_error",
        "unexpected_verify_error",
    }
)
"""A facilitator's reasons after which the authorization may still settle, or have settled."""


@dataclass(frozen=True)
class Receipt:
    """A paid answer: the body, and the PAYMENT-RESPONSE header. `replayed`: given before."""

    answer: dict[str, Any]
    response_header: str
    replayed: bool = False


@dataclass(frozen=True)
class PaymentFaults:
    """The faults in force for one paid request."""

    strikes: Callable[[FaultName], bool]
    hang: Callable[[], Awaitable[None]]


class Billing:
    """The vendor's till. `deliver` turns a settled payment into the answer, writing to `store`;
    `settlement` is `Treasury.settlement`.
    """

    def __init__(
        self,
        store: Store,
        facilitator: FacilitatorClient,
        settlement: Callable[[Authorization, str], Awaitable[str | None]],
        deliver: Callable[[Payment], dict[str, Any]],
    ) -> None:
        self._store = store
        self._facilitator = facilitator
        self._settlement = settlement
        self._deliver = deliver
        self._locks = KeyedLocks()
        self._crooked: dict[str, PaymentRequirements] = {}

    def challenge(
        self, purchase: Purchase, reason: str | None = None, fault: FaultName | None = None
    ) -> VendorError:
        """Return the 402 that asks for the purchase's payment; `fault` makes its terms crooked."""
        terms = requirements_for(purchase)
        if fault is not None:
            terms = crooked(terms, fault)
            self._crooked[purchase.subject] = terms
        return challenge_error(purchase, terms, reason)

    async def pay(
        self,
        purchase: Purchase,
        header: str,
        faults: PaymentFaults,
        before_first: Callable[[], None],
    ) -> Receipt:
        """Settle the payment in `header` once, deliver once, and return the answer.

        `before_first` may refuse (by raising VendorError) a payment not seen before. Raises
        VendorError: 400 an identifier that is none, 402 definite refusal, 403 another signature,
        409 identifier, quote or nonce taken, 503 outcome unknown (send the same header again).
        """
        payload = _decode(header)
        if payload is None:
            raise self.challenge(purchase, "malformed payment header")
        try:
            authorization = read_authorization(payload.payload)
        except MalformedAuthorization as error:
            raise self.challenge(purchase, str(error)) from error
        payment_id = _identifier(payload, authorization)
        receipt: Receipt | None = None
        async with self._locks.hold(purchase.vendor.vendor_id, payment_id):
            known = self._store.payment(purchase.vendor.vendor_id, payment_id)
            if known is not None:
                _check_same(known, purchase, authorization)
            if faults.strikes("error_before_settling"):
                raise VendorError(500, "internal error")
            if known is not None and known.state == "refused":
                raise self.challenge(purchase, known.reason)
            if known is not None and known.state == "done":
                receipt = Receipt(json.loads(known.answer), known.response_header, replayed=True)
            else:
                payment = known or self._accept(
                    purchase, payment_id, header, payload, authorization, before_first
                )
                if faults.strikes("silent_before_settling"):
                    self._store.save_payment(replace(payment, state="held"))
                else:
                    receipt = await self._settle(payment, purchase)
        if receipt is None:
            await faults.hang()
            raise VendorError(503, "no answer")
        if faults.strikes("silent_after_settling"):
            await faults.hang()
        if faults.strikes("error_after_settling"):
            raise VendorError(500, "internal error")
        if faults.strikes("drop_response_after_settling"):
            raise DroppedConnection("the vendor closed the connection")
        return receipt

    async def settle_held(self) -> list[dict[str, Any]]:
        """Settle what the fault silent_before_settling kept; returns what became of each."""
        results: list[dict[str, Any]] = []
        for payment in self._store.held_payments():
            async with self._locks.hold(payment.vendor_id, payment.payment_id):
                current = self._store.payment(payment.vendor_id, payment.payment_id)
                if current is None or current.state != "held":
                    continue
                try:
                    await self._settle(current, None)
                except VendorError as problem:
                    results.append({"paymentId": payment.payment_id, **problem.body})
                else:
                    results.append({"paymentId": payment.payment_id, "settled": True})
        return results

    def _accept(
        self,
        purchase: Purchase,
        payment_id: str,
        header: str,
        payload: PaymentPayload,
        authorization: Authorization,
        before_first: Callable[[], None],
    ) -> Payment:
        before_first()
        requirements = self._offered_to(purchase, payload)
        reason = not_offered(payload, requirements) or mismatch(
            authorization, payload, requirements
        )
        if reason:
            raise self.challenge(purchase, reason)
        payment = Payment(
            vendor_id=purchase.vendor.vendor_id,
            payment_id=payment_id,
            kind=purchase.kind,
            subject=purchase.subject,
            body=purchase.canonical_body,
            header=header,
            requirements=requirements.model_dump_json(by_alias=True),
            payer=authorization.payer,
            nonce=authorization.nonce,
            signature=authorization.signature,
            amount=authorization.value,
            state="settling",
        )
        try:
            self._store.add_payment(payment)
        except Conflict as error:
            raise VendorError(
                409, "this quote or authorization belongs to another payment identifier"
            ) from error
        return payment

    def _offered_to(self, purchase: Purchase, payload: PaymentPayload) -> PaymentRequirements:
        swindle = self._crooked.get(purchase.subject)
        if swindle is not None and not not_offered(payload, swindle):
            return swindle
        return requirements_for(purchase)

    async def _settle(self, payment: Payment, purchase: Purchase | None) -> Receipt:
        payload = decode_payment_signature_header(payment.header)
        requirements = PaymentRequirements.model_validate_json(payment.requirements)
        if not isinstance(payload, PaymentPayload):
            raise VendorError(400, "x402 v1 payments are not taken")
        self._store.save_payment(replace(payment, state="settling"))
        unknown = VendorError(
            503,
            "settlement outcome unknown: send the same payment again",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
        try:
            settled = await self._facilitator.settle(payload, requirements)
            if not settled.success and settled.error_reason not in UNKNOWN_OUTCOMES:
                settled = await self._settled_before(payload, requirements, settled)
        except Exception as error:
            raise unknown from error
        if not settled.success:
            if settled.error_reason in UNKNOWN_OUTCOMES:
                raise unknown
            raise self._refuse(payment, purchase, settled)
        header = encode_payment_response_header(settled)
        with self._store.transaction():
            paid = replace(payment, state="done", tx_hash=settled.transaction)
            answer = self._deliver(paid)
            self._store.save_payment(
                replace(paid, answer=json.dumps(answer), response_header=header)
            )
        return Receipt(answer, header)

    async def _settled_before(
        self, payload: PaymentPayload, requirements: PaymentRequirements, refusal: SettleResponse
    ) -> SettleResponse:
        """The settlement of this very payment, where it was settled before (by now its time may be
        over); else `refusal`. Raises LookupError where the chain does not show yet what it was.
        """
        authorization = read_authorization(payload.payload)
        tx_hash = await self._settlement(authorization, requirements.asset)
        if tx_hash is None and refusal.error_reason == evm.ERR_NONCE_ALREADY_USED:
            raise LookupError("the chain does not show what used the nonce")
        if not tx_hash:
            return refusal
        return SettleResponse(
            success=True,
            payer=authorization.payer,
            transaction=tx_hash,
            network=str(requirements.network),
        )

    def _refuse(
        self, payment: Payment, purchase: Purchase | None, settled: SettleResponse
    ) -> VendorError:
        reason = settled.error_reason or "settlement refused"
        self._store.save_payment(replace(payment, state="refused", reason=reason))
        if purchase is None:
            return VendorError(402, reason)
        problem = self.challenge(purchase, reason)
        problem.headers[PAYMENT_RESPONSE_HEADER] = encode_payment_response_header(settled)
        return problem


def _decode(header: str) -> PaymentPayload | None:
    try:
        payload = decode_payment_signature_header(header)
    except (ValueError, TypeError, KeyError):
        return None
    return payload if isinstance(payload, PaymentPayload) else None


def _identifier(payload: PaymentPayload, authorization: Authorization) -> str:
    """What names the payment: the client's identifier, or its authorization where it sends none,
    as stock clients do. Raises VendorError (400) for one that the extension does not allow.
    """
    declared = (payload.extensions or {}).get(PAYMENT_IDENTIFIER)
    info = declared.get("info") if isinstance(declared, dict) else None
    if isinstance(info, dict) and info.get("id") is not None:
        payment_id = info["id"]
        if not is_valid_payment_id(payment_id):
            raise VendorError(400, "the payment identifier is not 16 to 128 letters, digits, -, _")
        return str(payment_id)
    payer, nonce = (part.removeprefix("0x").lower() for part in authorization.key)
    return f"authorization_{payer}_{nonce}"


def _check_same(known: Payment, purchase: Purchase, authorization: Authorization) -> None:
    stored = read_authorization(decode_payment_signature_header(known.header).payload)
    same = (
        known.kind == purchase.kind
        and known.subject == purchase.subject
        and known.body == purchase.canonical_body
        and replace(authorization, signature="") == replace(stored, signature="")
    )
    if not same:
        raise VendorError(409, "this payment identifier was used with another payload")
    if not hmac.compare_digest(known.signature, authorization.signature):
        raise VendorError(403, "this is not the signature that paid")
