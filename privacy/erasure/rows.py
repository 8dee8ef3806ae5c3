"""Which rows of a table, and which words of a text, are about one user. (pure)"""

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.errors import InvalidInput
from stillpoint.messages import USER_ID_FORM, is_user_id

_WORD = rb"A-Za-z0-9_@+-"


def checked(user_id: str) -> str:
    """Return a user id that an event could carry.

    Raises:
        InvalidInput: no event could.
    """
    if not is_user_id(user_id):
        raise InvalidInput(f"user id {user_id[:64]!r} is malformed; expected {USER_ID_FORM}, as events carry it")
    return user_id


def mentions(user_id: str) -> "re.Pattern[bytes]":
    """Return what finds the id as a whole word in bytes: `u1` is not found in `u10` or `u1.b`, and is at a sentence's end."""
    before, after = rb"(?<![%b])(?<![%b]\.)" % (_WORD, _WORD), rb"(?!\.?[%b])" % _WORD
    return re.compile(before + re.escape(user_id.encode()) + after)


def user_columns(schema: pa.Schema) -> list[str]:
    """Return the columns by which a table's rows belong to a user."""
    return [name for name in ("user_id", "partition_key", "payload") if name in schema.names]


def about(table: pa.Table, user_id: str) -> npt.NDArray[np.bool_]:
    """Return which rows are about the user: by `user_id`, and for records kept aside also by what they hold."""
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
    """Return JSON with the letters and digits that it writes as escapes: `\\u0075` is a `u`."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), data)
