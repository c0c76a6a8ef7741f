"""What goes wrong, as HTTP: always `{"error": "…"}`, one sentence with what to do about it.

400  the JSON is malformed, or a value in it is unusable       InvalidInput
401  no API key, where one is required, or none in force       Unauthorized
403  the API key may not do this                               Forbidden
404  no such run, no such address, another's run               NotFound
409  another tick works on the run, or it was decided already  Conflict, PaymentError
     what was saved of the run is not ours to take             StateRefused
408  the body did not arrive in time
413  the body is larger than 64 KiB
415  the body is not application/json
421  a name of elsewhere, on a server that asks for no key
422  a field is missing, unknown, or of the wrong type
429  too many requests, or too many streams                    TooMany
502  a vendor did not do what the protocol says                VendorError
503  MongoDB, the chain, the wallet or a setting: try later    DependencyDown, ConfigError
500  a fault of ours; the log has it, the answer does not
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException

from domain.errors import (
    ConfigError,
    Conflict,
    DependencyDown,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    NotAllUsed,
    NotFound,
    PaymentError,
    RenterError,
    StateRefused,
    VendorError,
)
from ledger.idempotency import KeyBusy
from ledger.store import store_down
from server.access import Forbidden, Unauthorized
from server.middleware.rate_limits import TooMany

LOG: Final = logging.getLogger(__name__)
BUSY_S: Final = 1
"""Seconds after which something busy may be tried again."""
AWAY_S: Final = 5
"""Seconds after which something unavailable may be back."""
UNEXPECTED: Final = "The server failed to handle this. Try again; its log says what went wrong"
LONGEST_NAME: Final = 64
"""Characters of a client's own field name that an answer repeats."""

_STATUS: Final[tuple[tuple[type[RenterError], HTTPStatus], ...]] = (
    (InvalidInput, HTTPStatus.BAD_REQUEST),
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (TooMany, HTTPStatus.TOO_MANY_REQUESTS),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (PaymentError, HTTPStatus.CONFLICT),
    (StateRefused, HTTPStatus.CONFLICT),
    (VendorError, HTTPStatus.BAD_GATEWAY),
    (DependencyDown, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConfigError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_PLAIN: Final = {
    404: "There is nothing at this address. See /docs",
    405: "This address does not take that method. See /docs",
}
_PROBLEMS: Final = {
    "missing": "it is missing",
    "string_type": "it is not text",
    "model_attributes_type": "it is not a JSON object",
    "dict_type": "it is not a JSON object",
    "int_parsing": "it is not a whole number",
    "int_type": "it is not a whole number",
    "greater_than_equal": "it is too small",
    "less_than_equal": "it is too large",
}
"""Pydantic's name for a problem → ours."""


def problem(
    status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The answer for something that went wrong; `more` stands beside `error` in it."""
    given = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        given.setdefault("Retry-After", str(AWAY_S))
    return JSONResponse({"error": message, **more}, status, given)


def problem_of(error: RenterError) -> JSONResponse:
    """The answer for an error. It shows nothing of a fault of ours."""
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return problem(status, UNEXPECTED)
    headers = {}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, LeaseHeld | LeaseLost | PaymentError | KeyBusy):
        headers["Retry-After"] = str(BUSY_S)
    if isinstance(error, LeaseHeld) and error.goes_on_in_s is not None:
        headers["Retry-After"] = str(error.goes_on_in_s)
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="gpu-renter"'
    more: dict[str, Any] = {"code": error.code} if error.code else {}
    if isinstance(error, NotAllUsed):
        more["notUsed"] = list(error.words)
    if isinstance(error, InvalidInput):
        more["field"] = error.field
    return problem(status, str(error), headers, **more)


def status_of(error: RenterError) -> HTTPStatus:
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def add_error_handlers(app: FastAPI, remedies: Mapping[str, str]) -> None:
    """remedies: what to put into each field of a request that is not as its schema says."""
    app.add_exception_handler(RenterError, _renter_error)
    app.add_exception_handler(RequestValidationError, partial(_schema_error, remedies))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(PyMongoError, _store_error)


async def _renter_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RenterError)
    if status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        LOG.warning("%s %s: %s", request.method, request.url.path, error)
    return problem_of(error)


async def _store_error(request: Request, error: Exception) -> JSONResponse:
    """The driver's errors, which LangGraph's checkpointer raises as they are."""
    assert isinstance(error, PyMongoError)
    return await _renter_error(request, store_down(error))


async def _schema_error(
    remedies: Mapping[str, str],
    request: Request,  # noqa: ARG001
    error: Exception,
) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    *_, place = first["loc"]
    field = str(place)[:LONGEST_NAME]
    if first["type"] == "extra_forbidden":
        what, remedy = "this request has no such field", "Leave it out"
    else:
        what = _PROBLEMS.get(first["type"]) or str(first["msg"])
        remedy = remedies.get(field, "See /docs")
    said = f"{field}: {what}. {remedy}"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, said, field=field, code=first["type"])


async def _http_error(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    assert isinstance(error, HTTPException)
    message = _PLAIN.get(error.status_code, error.detail)
    return problem(error.status_code, message, error.headers)
