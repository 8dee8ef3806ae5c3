"""Chromium for tests, and what every page must keep: no serious fault, no wide page, nothing from elsewhere."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = {"serious", "critical"}


def find_chromium() -> str | None:
    """Return the Chromium of this machine, None if there is none."""
    named = os.environ.get("STILLPOINT_TEST_CHROMIUM")
    return named or next((path for name in CHROMIUM if (path := shutil.which(name))), None)


@dataclass
class Watched:
    """A page and what went wrong on it: requests to elsewhere, errors of scripts."""

    page: object
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def watched(browser, address, *, width=1280, theme="light") -> Iterator[Watched]:
    """Open a page that notes each request to another origin and each error of a script."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    found = Watched(page)
    own = urlsplit(address).netloc

    def asked(request):
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != own:
            found.elsewhere.append(request.url)

    page.on("request", asked)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    try:
        yield found
    finally:
        context.close()


def settled(page, url):
    """Go to a page and wait until every part of it has been read; return its text."""
    page.goto(url)
    page.wait_for_function(
        "() => document.querySelector('.page .panel, .page .alarm') && !document.body.innerText.includes('Reading …')"
    )
    return page.inner_text("body")


def faults(page):
    """Return what axe finds serious, each with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']} ({[node['html'][:120] for node in one['nodes'][:3]]})"
        for one in found
        if one["impact"] in SERIOUS
    ]


def overflow(page):
    """Return how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
