"""Signing in with an API key: one plain page, which needs no script."""

from __future__ import annotations

import asyncio
import re
from html import escape
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from domain.errors import RenterError
from server.access import MAKE_A_KEY, Unauthorized
from server.dashboard.plain import plain_page, too_many
from server.dashboard.sessions import COOKIE, SESSION_S, Visitors
from server.middleware.rate_limits import TooMany

LARGEST_FORM_BYTES: Final = 4096
FORM_DEADLINE_S: Final = 10.0
UNKNOWN_KEY: Final = "This API key is not known, or was revoked"
_LOCAL_PAGE: Final = re.compile(r"/(?:runs/[A-Za-z0-9_-]{1,64}|vendors)?", re.ASCII)


def sign_in_routes(visitors: Visitors) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/sign-in")
    async def show(request: Request, next: Annotated[str, Query()] = "/") -> Response:
        try:
            known = await visitors.of(request)
        except RenterError as error:
            return _form(_page(next), str(error), 503)
        return _form(_page(next)) if known is None else _go(_page(next))

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        form = await _fields(request)
        target = _page(form.get("next", "/"))
        try:
            if not await visitors.keys_required(request):
                return _go(target)
            session = await visitors.sign_in(request, form.get("key", "").strip())
        except Unauthorized:
            return _form(target, UNKNOWN_KEY, 401, remedy=_MAKE_ONE)
        except TooMany as error:
            return too_many(error)
        except RenterError as error:
            return _form(target, str(error), 503)
        answer = _go(target)
        answer.set_cookie(
            COOKIE,
            session,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        visitors.sign_out(request.cookies.get(COOKIE))
        answer = _go("/sign-in")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return router


def _go(target: str) -> Response:
    return RedirectResponse(target, status_code=303)


def _page(asked: str) -> str:
    """A page of ours, whatever was asked for: nobody is sent elsewhere."""
    return asked if _LOCAL_PAGE.fullmatch(asked) else "/"


async def _fields(request: Request) -> dict[str, str]:
    """The form's fields; none of a form that is too large or too slow."""
    body = b""
    try:
        async with asyncio.timeout(FORM_DEADLINE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_FORM_BYTES:
                    return {}
    except TimeoutError:
        return {}
    return {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}


def _form(target: str, problem: str = "", status: int = 200, remedy: str = "") -> HTMLResponse:
    """remedy: HTML that says what to do about the problem."""
    said = f'<p class="problem" role="alert">{escape(problem)}</p>{remedy}' if problem else ""
    return plain_page(_FORM.format(problem=said, target=escape(target, quote=True)), status)


def _command(words: str) -> str:
    """A command as HTML. It breaks between its words alone, and not at the hyphens in them."""
    return f"<code>{' '.join(f'<span>{escape(word)}</span>' for word in words.split())}</code>"


_MAKE_ONE: Final = f"<p>Where the server runs, this makes one: {_command(MAKE_A_KEY)}</p>"
_INTRODUCTION: Final = (
    f"<p>This server asks for an API key. {_command('gpu-renter keys create')} makes one.</p>"
)
_FORM: Final = f"""\
{_INTRODUCTION}
{{problem}}
<form method="post" action="/sign-in">
<input type="hidden" name="next" value="{{target}}">
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Sign in</button>
</form>
"""
