"""How a call of the vendor ends other than well."""

from collections.abc import Mapping
from typing import Any

import httpx


class VendorError(Exception):
    """An answer with an error status: `{"error": …}`, more fields, and headers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": message, **more}
        self.headers = dict(headers or {})


class DroppedConnection(httpx.ReadError):
    """The connection ends in the middle of an answer.

    A client in the same process (httpx.ASGITransport) sees this very error, a client over TCP a
    closed connection: the same to its code.
    """
