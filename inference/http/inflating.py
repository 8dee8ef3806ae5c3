"""Unpacks a gzip body while it arrives, and stops when it exceeds the size limit. (pure)"""

import zlib
from collections.abc import Sequence

from inference.http.problems import Problem

_GZIP = 16 + zlib.MAX_WBITS
_GZIP_NAMES = ("gzip", "x-gzip")


class TooLarge(Exception):
    """The unpacked body exceeds the limit."""


class Inflater:
    """Unpacks one gzip member of at most `limit` bytes; it never allocates more, whatever was packed."""

    def __init__(self, limit: int) -> None:
        self._inflate = zlib.decompressobj(_GZIP)
        self._left = limit

    def add(self, part: bytes) -> bytes:
        """Return the unpacked bytes of the next part.

        Raises:
            TooLarge: the limit is exceeded.
            Problem: 400, the part is not gzip, or something follows the end of the member.
        """
        try:
            data = self._inflate.decompress(part, self._left + 1)
        except zlib.error:
            raise _broken("the body is not the gzip that its Content-Encoding says") from None
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge
        if self._inflate.unused_data:
            raise _broken("something follows the end of the gzip body")
        return data

    def end(self) -> None:
        """Check that the body is complete.

        Raises:
            Problem: 400, it was cut off.
        """
        if not self._inflate.eof:
            raise _broken("the gzip body was cut off")


def inflater(encodings: Sequence[str], limit: int) -> Inflater | None:
    """Return an `Inflater` for a body with these Content-Encoding headers, or None for a plain body.

    Raises:
        Problem: 415, another encoding, or several.
    """
    named = [one.strip().lower() for value in encodings for one in value.split(",") if one.strip()]
    if not named or named == ["identity"]:
        return None
    if len(named) == 1 and named[0] in _GZIP_NAMES:
        return Inflater(limit)
    raise Problem(
        415,
        "Unsupported media type",
        "bodies are taken plain or as gzip",
        field="Content-Encoding",
        headers={"Accept-Encoding": "gzip"},
    )


def _broken(detail: str) -> Problem:
    return Problem(400, "Bad request", detail, field="body")
