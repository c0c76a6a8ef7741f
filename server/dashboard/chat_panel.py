"""The chat on a page: what was said so far, and a line to say more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from domain.errors import RenterError
from server.dashboard.layout import Page
from server.dashboard.sessions import Visitor
from server.dashboard.widgets import box, button, text
from server.wiring import Services

if TYPE_CHECKING:
    from server.chat.replies import Said

LONGEST_MESSAGE: Final = 4_000
_SUBMIT: Final = """(e) => {
  e.preventDefault();
  const line = e.target.querySelector('input');
  const words = line.value.trim();
  if (words) { line.value = ''; emit(words); }
}"""
_FILL: Final = "() => { const t = getHtmlElement(%d); t.value = %s; t.focus(); }"
_SCROLL: Final = "const t = getHtmlElement({id}); if (t) t.scrollTop = t.scrollHeight;"


class Talk:
    """A conversation with the agent, about one run or about none yet."""

    def __init__(
        self,
        page: Page,
        *,
        placeholder: str,
        send: str,
        label: str,
        run_id: str | None = None,
        user_id: str | None = None,
        big: bool = False,
    ) -> None:
        self._page = page
        self._run_id = run_id
        self._user_id = user_id
        self._turn = asyncio.Lock()
        self._said = box("div", "talk", role="log", aria_live="polite", aria_label="Conversation")
        with box("form", "say big" if big else "say") as form:
            self._line = box(
                "input",
                type="text",
                name="message",
                placeholder=placeholder,
                aria_label=label,
                autocomplete="off",
                maxlength=str(LONGEST_MESSAGE),
                enterkeyhint="send",
            )
            self._button = text("button", send, "btn primary", type="submit")
        form.on("submit", self._hear, js_handler=_SUBMIT)

    def hint(self, words: str) -> None:
        """A button that writes `words` into the line, to be changed and sent, and sends nothing."""
        button(words, None, js=_FILL % (self._line.id, json.dumps(words)))

    async def _hear(self, event: GenericEventArguments) -> None:
        await self.say(str(event.args))

    async def say(self, words: str) -> None:
        """Have it answered, after what was said before. The line stays open meanwhile: a browser
        drops the Enter of a form whose button is disabled.
        """
        self._add(words, "me")
        async with self._turn:
            self._button.props["aria-busy"] = "true"
            try:
                await self._page.doing(lambda services, who: self._answer(services, who, words))
            finally:
                del self._button.props["aria-busy"]

    async def _answer(self, services: Services, visitor: Visitor, words: str) -> str:
        user_id = self._user_id or visitor.user_id
        async for said in _talk(services, user_id, words, self._run_id, self._page.client.id):
            run_id = str(said.data.get("runId") or "")
            if said.kind != "run":
                self._add(said.text, said.kind)
            elif run_id != self._run_id:
                self._add(said.text, "begun", f"/runs/{run_id}?move=1")
        self._page.dashboard.watches.hurry()
        return ""

    def _add(self, words: str, kind: str, link: str = "") -> None:
        with self._page.client, self._said:
            bubble: Element = box("div", f"said {kind}")
            with bubble:
                text("span", words)
                if link:
                    text("span", " ")
                    text("a", "Open the run →", "strong", href=link)
        self._page.client.run_javascript(_SCROLL.format(id=self._said.id))


async def _talk(
    services: Services, user_id: str, message: str, run_id: str | None, page_id: str
) -> AsyncIterator[Said]:
    """What the agent says and does about a message; a failure is said too.

    page_id: of the page that it is written on: what is said on another page is no part of it.
    """
    from server.chat.conversation import Chat  # may load a model's client: with the first message
    from server.chat.replies import Said

    try:
        words = message[:LONGEST_MESSAGE]
        async for said in Chat(services).say(user_id, words, run_id, talk_id=page_id):
            yield said
    except RenterError as error:
        yield Said(str(error), "error", {})
