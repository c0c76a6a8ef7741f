"""What a vendor's status code stands for."""

from __future__ import annotations

from collections.abc import Callable

from domain.errors import (
    VendorBroken,
    VendorGarbage,
    VendorRefused,
    VendorUnauthorized,
)
from domain.quotes import VendorAddress
from domain.vendor_secrets import REMEDY


def check_status(vendor: VendorAddress, call: str, code: int, said: Callable[[], str]) -> None:
    """Raise the error that `code` stands for unless it is 2xx.

    said: gives the vendor's own words, made harmless; may be empty.
    """
    if 200 <= code < 300:
        return
    vendor_id, words = vendor.vendor_id, f"{code} {said()}".strip()
    if code in (401, 403):
        if vendor.secret_env is None:
            problem = f"it wants a secret, and has none here ({words})"
            raise VendorUnauthorized(vendor_id, call, problem, REMEDY)
        problem = f"it refuses our secret ({words})"
        remedy = f"Set {vendor.secret_env} to the secret this vendor gave you"
        raise VendorUnauthorized(vendor_id, call, problem, remedy)
    if 400 <= code < 500:
        raise VendorRefused(vendor_id, call, f"it refused ({words})", code)
    if code >= 500:
        raise VendorBroken(vendor_id, call, f"it failed ({words})")
    if code >= 300:
        raise VendorGarbage(vendor_id, call, f"answered a redirect ({code}); not followed")
    raise VendorGarbage(vendor_id, call, f"answered {code}, which ends no call")
