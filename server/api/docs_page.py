"""`/docs`: the OpenAPI document as one page. Nothing of it comes from another machine."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

STYLE: Final = """\
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem}
h2{margin:2.5rem 0 .5rem;font-size:1.1rem}
pre,code{font:14px/1.4 ui-monospace,monospace}
pre{padding:.75rem;overflow:auto;background:#8882;border-radius:6px;white-space:pre-wrap}
table{border-collapse:collapse;width:100%}
td{padding:.2rem .75rem .2rem 0;vertical-align:top;border-top:1px solid #8883}
"""
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)


def docs_routes(app: FastAPI) -> APIRouter:
    """The page about `app`."""
    router = APIRouter()

    @router.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = docs_page(app.openapi())
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    return router


def docs_page(document: dict[str, Any]) -> str:
    """The whole document, for a person to read. Every text of it is escaped."""
    info = document["info"]
    schemas = document["components"]["schemas"]
    operations = [
        line
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for line in _operation(method, path, operation)
    ]
    shapes = [
        f'<h2 id="{escape(name)}">{escape(name)}</h2>{_schema(schema)}'
        for name, schema in schemas.items()
    ]
    return "\n".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(info['title'])}</title><style>{STYLE}</style>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
            f"<pre>{escape(info.get('description', ''))}</pre>",
            '<p>For programs: <a href="openapi.json">openapi.json</a></p>',
            *operations,
            "<h1>Shapes</h1>",
            *shapes,
            "</html>",
        )
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
    yield f"<pre>{escape(operation.get('description', '').strip())}</pre><table>"
    for parameter in operation.get("parameters", []):
        where = f"{parameter['in']}{', needed' if parameter.get('required') else ''}"
        yield _row(parameter["name"], where, parameter.get("description", ""))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body:
        yield _row("body", "JSON", _shape(body["schema"]), html=True)
    for status, answer in operation["responses"].items():
        content = list(answer.get("content", {}).values())
        schema = content[0].get("schema", {}) if content else {}
        yield _row(status, answer["description"], _shape(schema), html=True)
    yield "</table>"


def _schema(schema: dict[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = [
        _row(name, f"{_kind(field)}{', needed' if name in needed else ''}", _about(field))
        for name, field in schema.get("properties", {}).items()
    ]
    examples = schema.get("examples", [])
    shown = f"<pre>{escape(json.dumps(examples[0], indent=2))}</pre>" if examples else ""
    return f"<table>{''.join(rows)}</table>{shown}"


def _about(field: dict[str, Any]) -> str:
    example = field.get("examples", [None])[0]
    said = str(field.get("description", ""))
    return f"{said} Like {json.dumps(example)}".strip() if example is not None else said


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    kind = str(field.get("type", "anything"))
    return f"array of {_kind(field['items'])}" if kind == "array" and "items" in field else kind


def _shape(schema: dict[str, Any]) -> str:
    name = _kind(schema) if schema else ""
    return f'<a href="#{escape(name)}">{escape(name)}</a>' if "$ref" in schema else escape(name)


def _row(*cells: str, html: bool = False) -> str:
    *plain, last = cells
    texts = [*(escape(cell) for cell in plain), last if html else escape(last)]
    return "<tr>" + "".join(f"<td>{text}" for text in texts) + "</tr>"
