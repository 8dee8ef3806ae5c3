"""For the site alone: links that leave docs/ for the repository become the path that they name."""

import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page's text, with what the site does not hold named instead of linked."""
    depth = page.file.src_uri.count("/")

    def named(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        if "://" in target or not _leaves(target, depth):
            return found[0]
        path = target.lstrip("./")
        return text if path in text else f"{text} (`{path}`)"

    return _LINK.sub(named, markdown)


def _leaves(target: str, depth: int) -> bool:
    """Return whether a relative link climbs above docs/, or names a file that is no page."""
    return target.count("../") > depth or not target.endswith((".md", ".png", ".svg", ".html"))
