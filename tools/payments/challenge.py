"""Reading an x402 challenge: what a 402 answer asks to be paid.

Sources: x402 specification v2 (`PAYMENT-REQUIRED` header, base64 of JSON) and v1 (JSON body).
Reading decides nothing, and is lenient where that cannot hurt: `domain.policy` says whether any of
it may be paid.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from eth_utils.address import is_address, to_checksum_address
from pydantic import ValidationError
from x402.http.constants import PAYMENT_REQUIRED_HEADER
from x402.schemas.payments import PaymentRequired, PaymentRequirements, ResourceInfo
from x402.schemas.v1 import PaymentRequiredV1, PaymentRequirementsV1

from domain import networks
from domain.errors import InvalidInput, PolicyRefused, VendorGarbage
from domain.money import LARGEST, Usd
from domain.payments import PaymentTerms
from tools.wire.untrusted import Unreadable, clean_text, parse_object

LARGEST_CHALLENGE_BYTES: Final = 16 * 1024
"""The most bytes of JSON. A request header repeats it, and servers take 32 to 64 KiB of those."""
MOST_REQUIREMENTS: Final = 32
LONGEST_ERROR: Final = 200
LONGEST_TIMEOUT_S: Final = 10**9

_ATOMIC_AMOUNT: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)

_AMOUNTS: Final = ("amount", "maxAmountRequired")

Requirement = PaymentRequirements | PaymentRequirementsV1


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a vendor asks to be paid. `accepts` holds the entries that could be read, in order."""

    x402_version: int
    accepts: tuple[PaymentTerms, ...]
    error: str
    """The vendor's reason, as harmless text; empty when it gave none."""
    document: PaymentRequired | PaymentRequiredV1 = field(repr=False)
    """The challenge as the SDK decodes it. Not to be changed."""

    def requirement(self, terms: PaymentTerms) -> Requirement:
        """The entry of the document that `terms` was read from and an EIP-3009 payment answers.

        Raises PolicyRefused when the challenge holds no such entry.
        """
        for entry in self.document.accepts:
            if _terms(entry) == terms and _takes_eip3009(entry):
                return entry
        raise PolicyRefused(
            "challenge", "the vendor's challenge offers no EIP-3009 payment on these terms"
        )


def read_challenge(
    response_headers: Mapping[str, str],
    body_bytes: bytes,
    *,
    vendor_id: str = "vendor",
    call: str = "402 challenge",
) -> Challenge | None:
    """The x402 challenge in a 402 answer, or None when the answer is no x402 challenge.

    The `PAYMENT-REQUIRED` header wins over the body. Raises VendorGarbage, naming `vendor_id` and
    `call`, for an answer that claims to be a challenge and cannot be read, or asks for nothing
    that can be read: such a vendor is not one that is billed outside x402.
    """
    headers = {name.lower(): value for name, value in response_headers.items()}
    header = headers.get(PAYMENT_REQUIRED_HEADER.lower())
    try:
        data = _decode_header(header) if header is not None else _find_in_body(body_bytes)
        return _read(data) if data is not None else None
    except Unreadable as error:
        raise VendorGarbage(vendor_id, call, f"its x402 challenge is malformed: {error}") from None


def _decode_header(header: str) -> Mapping[str, object]:
    if len(header) > LARGEST_CHALLENGE_BYTES * 2:
        raise Unreadable("its header is too long")
    try:
        text = header.strip().rstrip("=").encode("ascii")
        decoded = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise Unreadable("its header is not base64") from None
    return _bounded(decoded)


def _find_in_body(body: bytes) -> Mapping[str, object] | None:
    """The challenge in the body; None when the body does not claim to be one."""
    try:
        data = parse_object(body)
    except Unreadable:
        return None
    return _bounded(body) if "x402Version" in data else None


def _bounded(data: bytes) -> Mapping[str, object]:
    if len(data) > LARGEST_CHALLENGE_BYTES:
        raise Unreadable(f"it is above {LARGEST_CHALLENGE_BYTES:,} bytes")
    return parse_object(data)


def _read(data: Mapping[str, object]) -> Challenge:
    version = data.get("x402Version", 2)
    if type(version) is not int or version not in (1, 2):
        raise Unreadable("its x402Version is neither 1 nor 2")
    schema = PaymentRequiredV1 if version == 1 else PaymentRequired
    try:
        document = schema.model_validate({**_harmless(data), "accepts": _entries(data, version)})
    except ValidationError as error:
        raise Unreadable(_first_problem(error)) from None
    accepts = tuple(terms for entry in document.accepts if (terms := _terms(entry)) is not None)
    if not accepts:
        raise Unreadable("it offers no way to pay that can be read")
    error_text = clean_text(document.error or "", LONGEST_ERROR)
    return Challenge(x402_version=version, accepts=accepts, error=error_text, document=document)


def _entries(data: Mapping[str, object], version: int) -> list[Requirement]:
    """The entries that can be read. One that cannot does not spoil the others; raises Unreadable
    where there is no other.
    """
    offered = data.get("accepts")
    if not isinstance(offered, list):
        raise Unreadable("accepts is not a list")
    if len(offered) > MOST_REQUIREMENTS:
        raise Unreadable(f"it offers more than {MOST_REQUIREMENTS} ways to pay")
    schema = PaymentRequirementsV1 if version == 1 else PaymentRequirements
    found: list[Requirement] = []
    problem = ""
    for entry in offered:
        try:
            found.append(schema.model_validate(_with_text_amount(entry)))
        except ValidationError as error:
            problem = problem or _first_problem(error)
    if not found and problem:
        raise Unreadable(f"it offers no way to pay that can be read: {problem}")
    return found


def _with_text_amount(entry: object) -> object:
    """The entry, with an amount that is a whole JSON number as text, as x402 writes it."""
    if not isinstance(entry, dict):
        return entry
    return {
        name: str(value) if name in _AMOUNTS and type(value) is int else value
        for name, value in entry.items()
    }


def _harmless(data: Mapping[str, object]) -> dict[str, object]:
    """What stands around the entries, without what is of another kind than x402 has it: nothing
    that is signed comes from there.
    """
    kept = dict(data)
    resource = kept.get("resource")
    if isinstance(resource, str):
        kept["resource"] = {"url": resource}
    for name, kind in (("resource", dict), ("error", str), ("extensions", dict)):
        if name in kept and not isinstance(kept[name], kind):
            del kept[name]
    try:
        ResourceInfo.model_validate(kept.get("resource", {"url": ""}))
    except ValidationError:
        del kept["resource"]
    return kept


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return clean_text(f"{place}: {problem['msg']}", LONGEST_ERROR)


def _terms(entry: Requirement) -> PaymentTerms | None:
    """The terms in one entry, or None when its amount or times are not plain numbers in bounds."""
    amount = entry.get_amount()
    if not _ATOMIC_AMOUNT.fullmatch(amount) or int(amount) > LARGEST:
        return None
    if not 0 <= entry.max_timeout_seconds <= LONGEST_TIMEOUT_S:
        return None
    return PaymentTerms(
        scheme=clean_text(entry.scheme, 32),
        network=_caip2(entry),
        asset=_address(entry.asset),
        pay_to=_address(entry.pay_to),
        amount=Usd(int(amount)),
        max_timeout_s=entry.max_timeout_seconds,
    )


def _caip2(entry: Requirement) -> str:
    if isinstance(entry, PaymentRequirementsV1):
        try:
            return networks.network(entry.network).caip2
        except InvalidInput:
            pass
    return clean_text(entry.network, 64)


def _address(text: str) -> str:
    return str(to_checksum_address(text)) if is_address(text) else clean_text(text, 64)


def _takes_eip3009(entry: Requirement) -> bool:
    method = (entry.get_extra() or {}).get("assetTransferMethod")
    return method is None or method == "eip3009"
