"""From a vendor's JSON to our values. Every function raises Unfit for what does not fit.

Only what the agent goes by is read: nonsense in any other field costs no running job.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from domain.jobs import JobSpec
from domain.mapping import Mapped, Unfit
from domain.quotes import Quote
from tools.vendors.base import Accepted, Extended
from tools.vendors.fields import Identifier, Minutes, Price, Time
from tools.wire.exchange import Answer
from tools.wire.untrusted import Unreadable, clean_text, parse_object

Json = Mapping[str, object]
Secrets = tuple[str, ...]

LONGEST_REASON: Final = 200

_TX_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Quoted(Mapped):
    currency: Literal["USD"]
    price_estimate: Price
    eta_minutes: Minutes
    vendor_job_template_id: Identifier
    expires_at: Time | None = None


def quote(answer: Json, secrets: Secrets, vendor_id: str, spec: JobSpec, minutes: int) -> Quote:
    """The offer in an answer to `POST /quote`."""
    quoted = _Quoted.of(answer, secrets)
    return Quote(
        vendor_id=vendor_id,
        template_id=quoted.vendor_job_template_id,
        gpu_type=spec.gpu_type,
        minutes=minutes,
        price=quoted.price_estimate,
        eta_minutes=quoted.eta_minutes,
        expires_at=quoted.expires_at,
    )


def accepted(answer: Json, secrets: Secrets, payment_response: str | None) -> Accepted:
    """The job in a 2xx answer to `POST /submit-job`."""
    taken = Accepted.of(answer, secrets)
    return replace(taken, claimed_tx_id=settled_tx(payment_response) or taken.claimed_tx_id)


def extended(
    answer: Json, secrets: Secrets, vendor_job_id: str, payment_response: str | None
) -> Extended:
    """The extension in a 2xx answer to `POST /extend-job`, which must be of the job asked for."""
    taken = Extended.of(answer, secrets)
    if taken.vendor_job_id != vendor_job_id:
        raise Unfit("Extended", "vendorJobId", "it is not the job asked for")
    return replace(taken, claimed_tx_id=settled_tx(payment_response) or taken.claimed_tx_id)


def said(answer: Answer, secrets: Secrets = ()) -> str:
    """The `error` of an answer's body as harmless text; empty when there is none."""
    try:
        words = parse_object(answer.body).get("error")
    except Unreadable:
        return ""
    return clean_text(words, LONGEST_REASON, secrets) if isinstance(words, str) else ""


def payment_response(answer: Answer) -> str | None:
    """The header that claims a settlement, by either of its names."""
    claim: str | None = answer.headers.get("PAYMENT-RESPONSE") or answer.headers.get(
        "X-PAYMENT-RESPONSE"
    )
    return claim


def settled_tx(payment_response: str | None) -> str | None:
    """The transaction that a `PAYMENT-RESPONSE` header claims, or None. Never raises."""
    if not payment_response or len(payment_response) > 16_384:
        return None
    try:
        claim = parse_object(base64.b64decode(payment_response.encode("ascii"), validate=True))
    except (Unreadable, UnicodeEncodeError, binascii.Error):
        return None
    transaction = claim.get("transaction")
    if isinstance(transaction, str) and _TX_HASH.fullmatch(transaction):
        return transaction.lower()
    return None
