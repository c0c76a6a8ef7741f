"""Reading requests: the secret, and a bounded JSON body."""

import hmac
import json
from typing import Any, Final

from fastapi import Request

from mock_vendor.vendor.problems import VendorError
from mock_vendor.vendor.settings import VendorSettings

MAX_BODY_BYTES: Final = 64 * 1024


def check_secret(request: Request, settings: VendorSettings) -> None:
    """Raise VendorError (401) unless the request carries the vendor secret."""
    expected = f"Bearer {settings.gpu_vendor_secret.get_secret_value()}"
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise VendorError(401, "Unauthorized")


async def read_json(request: Request) -> dict[str, Any]:
    """Return the request's JSON object. Raises VendorError: 413 too large, 400 malformed."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise VendorError(413, "request body too large")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise VendorError(400, "the body must be JSON") from error
    if not isinstance(document, dict):
        raise VendorError(400, "the body must be a JSON object")
    return document


def required_text(body: dict[str, Any], name: str) -> str:
    """Return a required text field. Raises VendorError (400)."""
    value = body.get(name)
    if value is None or value == "":
        raise VendorError(400, f"{name} is required")
    if not isinstance(value, str):
        raise VendorError(400, f"{name} must be a text")
    return value
