"""HTML as text that escapes whatever is not markup already. (pure)"""

from collections.abc import Iterable
from html import escape

Attribute = str | int | float | bool | None


class Markup(str):
    """Text that is HTML already; any other text is escaped when it becomes a child."""

    __slots__ = ()


Child = Markup | str | int | float | None | Iterable["Child"]

_VOID = frozenset({"br", "hr", "img", "input", "meta", "path", "line", "rect", "circle"})


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element. `class_` and `for_` lose their underscore, others become hyphens; None and False are left out.

    >>> tag("a", "1 < 2", href="/now", aria_current="page")
    '<a href="/now" aria-current="page">1 &lt; 2</a>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID and not children:
        return (
            Markup(f"<{name}{written}>")
            if name in ("br", "hr", "img", "input", "meta")
            else Markup(f"<{name}{written}/>")
        )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Return children one after the other; None is nothing."""
    return Markup("".join(_written(child) for child in children))


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return escape(str(child), quote=False)
    return "".join(_written(one) for one in child)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
