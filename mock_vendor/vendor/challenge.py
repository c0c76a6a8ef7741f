"""The 402: what a purchase must be paid with, and whether a payment accepts those terms."""

import json
from dataclasses import dataclass
from typing import Any, Final

from x402 import PaymentPayload, PaymentRequired, PaymentRequirements, ResourceInfo
from x402.extensions.payment_identifier import (
    PAYMENT_IDENTIFIER,
    declare_payment_identifier_extension,
)
from x402.http import PAYMENT_REQUIRED_HEADER, encode_payment_required_header

from mock_vendor.accounts import (
    LOCAL_NETWORK,
    LOCAL_USDC_ADDRESS,
    TOKEN_NAME,
    TOKEN_VERSION,
    dev_address,
)
from mock_vendor.vendor.faults import FaultName
from mock_vendor.vendor.problems import VendorError
from mock_vendor.vendor.records import PaymentKind
from mock_vendor.vendor.settings import VendorProfile

MAX_TIMEOUT_S: Final = 300


@dataclass(frozen=True)
class Purchase:
    """What one call wants paid. `amount` in micro-dollars; `body` is the request's JSON."""

    vendor: VendorProfile
    kind: PaymentKind
    subject: str
    amount: int
    body: dict[str, Any]
    url: str
    description: str

    @property
    def canonical_body(self) -> str:
        """The body as comparable text. `x402TxId` means nothing on this rail and is left out."""
        kept = {key: value for key, value in self.body.items() if key != "x402TxId"}
        return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def challenge_error(
    purchase: Purchase, terms: PaymentRequirements, reason: str | None = None
) -> VendorError:
    """Return the 402: the x402 v2 challenge in its header and, the same, in its body."""
    required = PaymentRequired(
        error=reason or "Payment required",
        resource=ResourceInfo(
            url=purchase.url,
            description=purchase.description,
            mime_type="application/json",
        ),
        accepts=[terms],
        extensions={PAYMENT_IDENTIFIER: declare_payment_identifier_extension()},
    )
    body = required.model_dump(by_alias=True, exclude_none=True)
    return VendorError(
        402,
        body.pop("error"),
        headers={
            PAYMENT_REQUIRED_HEADER: encode_payment_required_header(required),
            "Cache-Control": "no-store",
        },
        **body,
    )


def requirements_for(purchase: Purchase) -> PaymentRequirements:
    """Return the honest terms of a purchase."""
    return PaymentRequirements(
        scheme="exact",
        network=LOCAL_NETWORK,
        asset=LOCAL_USDC_ADDRESS,
        amount=str(purchase.amount),
        pay_to=purchase.vendor.pay_to,
        max_timeout_seconds=MAX_TIMEOUT_S,
        extra={"name": TOKEN_NAME, "version": TOKEN_VERSION, "quoteId": purchase.subject},
    )


def crooked(honest: PaymentRequirements, fault: FaultName) -> PaymentRequirements:
    """Return the terms as a challenge fault bends them."""
    changes: dict[FaultName, dict[str, Any]] = {
        "price_above_quote": {"amount": str(int(honest.amount) * 2)},
        "wrong_pay_to": {"pay_to": dev_address("thief")},
        "wrong_asset": {"asset": dev_address("another token")},
        "wrong_network": {"network": "eip155:8453"},
    }
    return honest.model_copy(update=changes.get(fault, {}))


def not_offered(payload: PaymentPayload, requirements: PaymentRequirements) -> str | None:
    """Return why the payment accepts other terms than these, or None when it accepts them."""
    accepted = payload.accepted
    same = (
        accepted.amount == requirements.amount
        and accepted.asset.lower() == requirements.asset.lower()
        and accepted.pay_to.lower() == requirements.pay_to.lower()
        and accepted.network == requirements.network
        and accepted.extra.get("quoteId") == requirements.extra["quoteId"]
    )
    return None if same else "the payment accepts other terms than were offered"
