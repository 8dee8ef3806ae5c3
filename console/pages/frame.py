"""The frame of every page: the way to the other pages, which release is live, light and dark, and the parts that stay true."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from fastapi import Request
from nicegui import ui

from console.access import SIGN_IN, Access
from console.desk import Desk
from console.drawing.html import Child, Markup, join, tag
from console.drawing.parts import Tone, alarm, badge, colour_name, prose
from console.live.element import Act, LiveHtml
from console.live.readings import Reading
from console.reading.live import LiveRelease
from console.trouble import Trouble, trouble

T = TypeVar("T")

PAGES = (
    ("/", "Now"),
    ("/releases", "Releases"),
    ("/features", "Features"),
    ("/user", "A user"),
    ("/try", "Try it"),
    ("/data", "Data"),
)
_FOLDER = Path(__file__).parent
_STYLE = (_FOLDER / "style.css").read_text(encoding="utf-8")
_THEME = (_FOLDER / "theme.js").read_text(encoding="utf-8")
HEAD = f"<style>{_STYLE}</style><script>{_THEME}</script>"
_LOOK_SECONDS = 2.0
_FIRST_SECONDS = 1.5
"""How long a page waits for a part before it opens without it."""
_FIRST_READINGS: set["asyncio.Future[None]"] = set()


def access_of(request: Request) -> Access:
    """Return what the browser of a request may do."""
    access: Access = request.state.access
    return access


@contextmanager
def frame(desk: Desk, request: Request, path: str, title: str, *, lead: str = "") -> Iterator[Access]:
    """Draw the frame; what the block adds stands in its middle."""
    access = access_of(request)
    desk.authorization = access.authorization or desk.authorization
    ui.add_head_html(HEAD)
    with ui.header(bordered=False, elevated=False).classes("top"):
        LiveHtml(_ways(path)).classes("ways")
        strip = LiveHtml(_strip(Reading())).classes("strip")
        LiveHtml(_corner(access)).classes("corner")

    async def look() -> None:
        strip.show(_strip(await desk.live()))

    ui.timer(_LOOK_SECONDS, look)
    with ui.element("div").classes("page").props("id=main tabindex=-1"):
        LiveHtml(join(tag("h1", title), tag("p", prose(lead), class_="lead") if lead else None)).classes("title")
        yield access


class Section(Generic[T]):
    """A part of a page: read and drawn when the page opens, and anew while it is open."""

    def __init__(self, read: Callable[[], Awaitable[T]], draw: Callable[[T], Markup], act: Act | None) -> None:
        self._read, self._draw = read, draw
        self._element = LiveHtml(tag("p", "Reading …", class_="empty"), act=act)

    async def refresh(self) -> None:
        """Read and draw now."""
        try:
            drawn = self._draw(await self._read())
        except Exception as error:  # noqa: BLE001  a page never shows a traceback, and its other parts go on
            drawn = told(trouble(error))
        self._element.show(drawn)


async def section(
    read: Callable[[], Awaitable[T]], draw: Callable[[T], Markup], *, every: float | None = 2.0, act: Act | None = None
) -> Section[T]:
    """Add a part that is read anew every few seconds; with None only when it is asked to."""
    made = Section(read, draw, act)
    reading = asyncio.ensure_future(made.refresh())
    _FIRST_READINGS.add(reading)
    reading.add_done_callback(_FIRST_READINGS.discard)
    await asyncio.wait([reading], timeout=_FIRST_SECONDS)  # a slow one is drawn when it is done
    if every is not None:
        ui.timer(every, made.refresh, immediate=False)
    return made


def told(found: Trouble) -> Markup:
    """Return a failure as a sentence with what to do."""
    return alarm(prose(found.sentence), prose(found.advice) if found.advice else None)


def drawn(reading: Reading[T], draw: Callable[[T], Child], *, empty: Child = None) -> Markup:
    """Draw what was read; with trouble, the sentence before what was last known."""
    parts: list[Child] = []
    if reading.trouble is not None:
        parts.append(told(reading.trouble))
    if reading.value is not None:
        parts.append(draw(reading.value))
    elif reading.trouble is None:
        parts.append(empty)
    return join(*parts)


def _ways(path: str) -> Markup:
    links = (tag("li", tag("a", name, href=to, aria_current="page" if to == path else None)) for to, name in PAGES)
    return join(
        tag("a", "Skip to the page", href="#main", class_="skip"),
        tag("a", tag("span", class_="mark", aria_hidden="true"), "Stillpoint", href="/", class_="brand"),
        tag("nav", tag("ul", links), aria_label="Pages"),
    )


def _strip(reading: Reading[LiveRelease]) -> Markup:
    live = reading.value
    if reading.trouble is not None:
        return tag("p", badge("lake away", Tone.BAD), title=reading.trouble.sentence)
    if live is None:
        return tag("p", "…")
    if live.release is None:
        return tag("p", badge("nothing live"))
    return tag(
        "p",
        tag("a", live.release, href=f"/releases/{live.release}"),
        " is live in ",
        colour_name(live.colour or ""),
        tag("span", f"generation {live.generation}", class_="quiet"),
    )


def _corner(access: Access) -> Markup:
    out = None if access.tokens is None else tag("a", "Sign out", href=f"{SIGN_IN}?out=1", class_="quiet")
    reads = None if access.admin else badge("read only")
    theme = tag(
        "button",
        tag("span", "Light or dark", class_="unseen"),
        type="button",
        class_="theme",
        onclick="stillpointTheme()",
    )
    return join(reads, out, theme)
