"""Plain pages, which need no script: signing in, waiting for the services, nothing there."""

from __future__ import annotations

from html import escape
from typing import Final

from fastapi.responses import HTMLResponse

from server.dashboard.theme import TOKENS
from server.middleware.rate_limits import TooMany


def plain_page(content: str, status: int, head: str = "") -> HTMLResponse:
    """A page of one column. content, head: HTML, escaped by the caller."""
    page = _SHELL.format(tokens=TOKENS, content=content, head=head)
    return HTMLResponse(page, status, {"Cache-Control": "no-store"})


def unavailable(problem: str) -> HTMLResponse:
    """What stands in for a page while the services are away. It tries again by itself."""
    said = f'<p role="alert">{escape(problem)}</p><p>This page tries again by itself.</p>'
    return plain_page(said, 503, '<meta http-equiv="refresh" content="3">\n')


def too_many(error: TooMany) -> HTMLResponse:
    """What stands in for a page at an address that was there too often without signing in."""
    page = plain_page(f'<p role="alert">{escape(str(error))}</p>', 429)
    page.headers["Retry-After"] = str(error.retry_after_s)
    return page


def missing(why: str = "There is no page at this address.") -> HTMLResponse:
    """What is shown where nothing is, with a way on."""
    return plain_page(f'<p>{escape(why)}</p>\n<p><a href="/">All runs</a></p>', 404)


_SHELL: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}<title>GPU Renter</title>
<style>{tokens}
body{{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--page);
color:var(--ink);font:16px/1.5 var(--sans)}}
main{{width:min(22rem,calc(100vw - 3rem));overflow-wrap:anywhere}}
h1{{font-size:1.25rem;margin:0 0 .25rem}}
p{{color:var(--soft);margin:0 0 1.25rem}}
a{{color:var(--accent)}}
label{{display:block;font-weight:600;margin-bottom:.35rem}}
input{{box-sizing:border-box;width:100%;padding:.6rem .75rem;font:inherit;color:inherit;
background:var(--card);border:1px solid var(--line-strong);border-radius:8px}}
button{{width:100%;margin-top:1rem;padding:.6rem;font:inherit;font-weight:600;border:0;
border-radius:8px;background:var(--accent);color:var(--on-accent);cursor:pointer}}
:focus-visible{{outline:2px solid var(--accent);outline-offset:2px}}
code span{{display:inline-block}}
.problem{{color:var(--bad)}}
</style>
</head>
<body>
<main>
<h1>GPU Renter</h1>
{content}
</main>
</body>
</html>
"""
