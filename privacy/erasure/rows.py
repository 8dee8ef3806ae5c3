"""Finds the rows of a table and the words of a text that are about one user. (pure)"""

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.errors import InvalidInput
from stillpoint.messages import USER_ID_FORM, is_user_id

_WORD = rb"A-Za-z0-9_@+-"


def checked(user_id: str) -> str:
    """Return the user id, if an event could carry it.

    >>> checked("u-4711")
    'u-4711'

    Raises:
        InvalidInput: no event could.
    """
    if not is_user_id(user_id):
        raise InvalidInput(f"user id {user_id[:64]!r} is malformed; expected {USER_ID_FORM}, as events carry it")
    return user_id


def mentions(user_id: str) -> "re.Pattern[bytes]":
    """Return a pattern that finds the id as a whole word in bytes.

    >>> bool(mentions("u1").search(b"asked by u1.")), bool(mentions("u1").search(b"u10 and u1.b"))
    (True, False)
    """
    before, after = rb"(?<![%b])(?<![%b]\.)" % (_WORD, _WORD), rb"(?!\.?[%b])" % _WORD
    return re.compile(before + re.escape(user_id.encode()) + after)


def user_columns(schema: pa.Schema) -> list[str]:
    """Return the columns by which a table's rows belong to a user."""
    return [name for name in ("user_id", "partition_key", "payload") if name in schema.names]


def about(table: pa.Table, user_id: str) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows about the user: by `user_id`, and for quarantined records also by their payload."""
    found = np.zeros(table.num_rows, dtype=bool)
    for name in ("user_id", "partition_key"):
        if name in table.schema.names:
            found |= pc.fill_null(pc.equal(table[name], user_id), False).to_numpy(zero_copy_only=False)
    if "payload" in table.schema.names:
        word = mentions(user_id)
        found |= np.array(
            [data is not None and word.search(_unescaped(data)) is not None for data in table["payload"].to_pylist()],
            bool,
        )
    return found


_ESCAPE = re.compile(rb"\\u00([0-7][0-9a-fA-F])")


def _unescaped(data: bytes) -> bytes:
    """Return JSON bytes with escaped ASCII letters and digits unescaped: `\\u0075` becomes `u`."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), data)
