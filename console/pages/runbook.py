"""The pages of the runbook, as they lie in the repository."""

import re

from fastapi import Request
from nicegui import ui

from console.desk import Desk
from console.drawing.html import Markup, join, tag
from console.drawing.parts import empty, link, panel, prose
from console.live.element import LiveHtml
from console.pages.frame import frame
from console.reading.runbook import RunbookPage, runbook_page

_OTHER_PAGE = re.compile(r'href="(?:\.\./)?(?:runbook/)?([A-Za-z0-9-]+)\.md(?:#[^"]*)?"')
"""A link of one document to another."""


def register(desk: Desk) -> None:
    """Make the page."""

    @ui.page("/runbook/{name}", title="Runbook · Stillpoint", response_timeout=30)
    async def runbook(request: Request, name: str) -> None:
        page = await desk.readings.run(lambda: runbook_page(name.removesuffix(".md")))
        with frame(desk, request, "/runbook", name if page is not None else "Runbook"):
            LiveHtml(_draw(page, name))


def _draw(page: RunbookPage | None, name: str) -> Markup:
    back = link("Back to what is red", "/")
    if page is None:
        return panel("There is no such page", empty(f"The runbook has no page “{name[:64]}”."), back)
    if page.markdown is None:
        return panel("What to do", tag("p", prose(page.action or "")), back)
    return join(panel("Runbook", _markdown(page.markdown), back))


def _markdown(text: str) -> Markup:
    import markdown2

    made = markdown2.markdown(text, extras=["fenced-code-blocks", "tables"], safe_mode="escape")
    made = str(made).replace("<pre>", '<pre tabindex="0">')  # what scrolls is reached by keyboard
    return tag("div", Markup(_OTHER_PAGE.sub(r'href="/runbook/\1"', str(made))), class_="markdown")
