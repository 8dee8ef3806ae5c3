"""What a text of an event may hold beyond its length, said by its `Meta`.

>>> from typing import Annotated
>>> from msgspec import Meta
>>> Title = Annotated[str, Meta(min_length=1, max_length=60, extra=PRINTABLE)]
"""

from typing import Annotated, Final

from msgspec import Meta

_KEY: Final = "text"
PRINTABLE = {_KEY: "printable"}
"""Printable characters of which something can be seen: ids and names."""

VISIBLE = {_KEY: "visible"}
"""Any characters but NUL of which something can be seen, line breaks too: what a user typed."""

Name = Annotated[str, Meta(min_length=1, max_length=128, extra=PRINTABLE)]
"""An id or a name: 1 to 128 printable characters, not blank."""


def letters_of(extra: dict[str, object] | None) -> str | None:
    """Return `printable` or `visible` where a field's `Meta` says so."""
    found = (extra or {}).get(_KEY)
    return found if isinstance(found, str) else None
