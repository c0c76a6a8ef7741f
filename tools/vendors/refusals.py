"""What a vendor's status code stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from domain.errors import (
    VendorBroken,
    VendorGarbage,
    VendorRefused,
    VendorUnauthorized,
)

SECRET_REMEDY: Final = "Set GPU_VENDOR_SECRET to the secret this vendor gave you"


def check_status(vendor_id: str, call: str, code: int, said: Callable[[], str]) -> None:
    """Raise the error that `code` stands for unless it is 2xx.

    said: gives the vendor's own words, made harmless; may be empty.
    """
    if 200 <= code < 300:
        return
    words = f"{code} {said()}".strip()
    if code in (401, 403):
        problem = f"it refuses our secret ({words})"
        raise VendorUnauthorized(vendor_id, call, problem, SECRET_REMEDY)
    if 400 <= code < 500:
        raise VendorRefused(vendor_id, call, f"it refused ({words})", code)
    if code >= 500:
        raise VendorBroken(vendor_id, call, f"it failed ({words})")
    if code >= 300:
        raise VendorGarbage(vendor_id, call, f"answered a redirect ({code}); not followed")
    raise VendorGarbage(vendor_id, call, f"answered {code}, which ends no call")
