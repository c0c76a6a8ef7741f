"""What the OpenAPI document says of errors and of keys, the same for every route."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from server.access import SIGNED_OTHERWISE
from server.api.schemas import Problem
from server.middleware.authenticate import is_guarded, needs

Responses = dict[int | str, dict[str, Any]]

_MEANINGS: Final = {
    400: "The JSON is malformed, or a value in it cannot be used.",
    401: "An API key is required here, and this is none in force.",
    403: "The API key may not do this.",
    404: "There is no such run, or it is another's.",
    408: "The body did not arrive in time.",
    409: "Another tick works on the run, it was decided otherwise before, or the Idempotency-Key "
    "is in use.",
    413: "The body is larger than 64 KiB.",
    415: "The body is not application/json.",
    421: "The request names another server than this.",
    422: "A field is missing, unknown, or of the wrong type.",
    429: "Too many requests; Retry-After says when to try again.",
    502: "A vendor did not do what the protocol says.",
    503: "MongoDB, the chain or the wallet cannot be reached; nothing is lost, try again.",
}
_ANY: Final = (400, 401, 403, 421, 422, 429, 503)
_WITH_BODY: Final = (408, 413, 415)
_AT_THE_DOOR: Final = (401, 403, 421, 429, 503)
EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["data"],
}
"""The schema of a server-sent event."""
_SCHEME: Final = "apiKey"


def of_get(*more: int) -> Responses:
    """The errors of a GET under /api/, and `more`."""
    return _described(*_ANY, *more)


def of_stream(*more: int) -> Responses:
    """Events, the errors of a GET under /api/, and `more`."""
    events: Responses = {200: {"content": {"text/event-stream": {"schema": EVENT}}}}
    return events | {status: _problem(status) for status in sorted((*_ANY, *more))}


def of_post(*more: int) -> Responses:
    """The errors of a POST under /api/, and `more`."""
    return _described(*_ANY, *_WITH_BODY, *more)


def _described(*statuses: int) -> Responses:
    return {s: {"model": Problem, "description": _MEANINGS[s]} for s in sorted(statuses)}


def _problem(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": _MEANINGS[status], "content": content}


def describe_keys(app: FastAPI, *, asked: bool) -> None:
    """Have the document say which addresses take an API key, where one is asked for at all."""

    plain = app.openapi

    def document() -> dict[str, Any]:
        made = app.openapi_schema is not None
        return plain() if made else _with_keys(asked, plain())

    app.openapi = document  # type: ignore[method-assign]


def _with_keys(asked: bool, schema: dict[str, Any]) -> dict[str, Any]:
    if asked:
        components = schema.setdefault("components", {})
        components.setdefault("securitySchemes", {})[_SCHEME] = {
            "type": "http",
            "scheme": "bearer",
            "description": "A key by `gpu-renter keys create`.",
        }
    for path, item in schema["paths"].items():
        if not is_guarded(path) or path in SIGNED_OTHERWISE:
            continue
        for operation in item.values():
            for status in _AT_THE_DOOR:
                operation["responses"].setdefault(str(status), _problem(status))
            if asked:
                operation["security"] = [{_SCHEME: []}]
            scopes = ", ".join(sorted(needs(path)))
            operation["description"] = f"{operation.get('description', '')}\n\nScope: {scopes}."
    return schema
