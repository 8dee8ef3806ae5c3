"""Splits a JSON text into its members or elements, as bytes, without parsing them (pure).

A parser that reads the whole text fails for all elements if one is bad. Only quotes and brackets are examined here, so an
element may hold anything else, and its bytes come out unchanged. One pass over the text, however deep it is nested.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_BLANKS = b" \t\r\n"


class NotCut(ValueError):
    """The brackets or quotes of a text do not match, so that its parts cannot be told apart."""


class Parts:
    """A JSON text that is one object or one array, and where its own commas and colons are."""

    def __init__(self, text: bytes) -> None:
        """Find the commas and colons of a text's outermost level.

        Raises:
            NotCut: it is neither an object nor an array, or its brackets or quotes do not match.
        """
        self.text = text.strip(_BLANKS)
        self.opens = self.text[:1]
        if self.opens + self.text[-1:] not in (b"{}", b"[]"):
            raise NotCut("it is neither an object nor an array")
        plain = self.text.replace(rb"\\", b"__").replace(rb"\"", b"__")  # from the left, as escapes pair
        letters = np.frombuffer(plain, np.uint8)
        outside = np.cumsum(letters == ord('"'), dtype=np.int32) & 1 == 0
        opening = ((letters == ord("{")) | (letters == ord("["))) & outside
        closing = ((letters == ord("}")) | (letters == ord("]"))) & outside
        depth = np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int32)
        if not outside[-1] or depth[-1] != 0 or (depth[:-1] < 1).any():
            raise NotCut("its brackets or quotes do not match")
        own = outside & (depth == 1)
        self._commas: npt.NDArray[np.intp] = np.flatnonzero(own & (letters == ord(",")))
        self._colons: npt.NDArray[np.intp] = np.flatnonzero(own & (letters == ord(":")))

    @property
    def count(self) -> int:
        """The number of elements or members; 1 for an empty array or object."""
        return int(self._commas.size) + 1

    def elements(self) -> Iterator[bytes]:
        """Yield each element's bytes without surrounding blanks; nothing for an empty array or object."""
        starts = [1, *(self._commas + 1).tolist()]
        ends = [*self._commas.tolist(), len(self.text) - 1]
        if len(starts) == 1 and not self.text[1:-1].strip(_BLANKS):
            return
        for start, end in zip(starts, ends, strict=True):
            yield self.text[start:end].strip(_BLANKS)

    def members(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the name, as it is written, and the value of each member of an object.

        Raises:
            NotCut: a part between two commas is not a name with a value.
        """
        colons = iter(self._colons.tolist())
        start = 1
        for end in [*self._commas.tolist(), len(self.text) - 1]:
            if start == 1 and end == len(self.text) - 1 and not self.text[1:-1].strip(_BLANKS):
                return
            colon = next(colons, None)
            if colon is None or not start < colon < end:
                raise NotCut("something in it is no name with a value")
            yield self.text[start:colon].strip(_BLANKS), self.text[colon + 1 : end].strip(_BLANKS)
            start = end + 1
        if next(colons, None) is not None:
            raise NotCut("something in it is no name with a value")
