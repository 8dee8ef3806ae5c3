"""Finds the rows of a table and the words of a text that are about some users. (pure)"""

import re
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.errors import InvalidInput
from stillpoint.messages import USER_ID_FORM, is_user_id

_WORD = rb"A-Za-z0-9_@+-"
_WORDS = re.compile(rb"[%b]+(?:\.[%b]+)*" % (_WORD, _WORD))


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


def mentioned(data: bytes, users: Set[str]) -> set[str]:
    """Return those users whose ids stand in bytes as whole words, which `mentions` finds one at a time.

    >>> sorted(mentioned(b"u2, u10 and u1.", {"u1", "u2", "u3"}))
    ['u1', 'u2']
    """
    words = {found.decode("ascii") for found in _WORDS.findall(data)}
    return words & users


def user_columns(schema: pa.Schema) -> list[str]:
    """Return the columns by which a table's rows belong to a user."""
    return [name for name in ("user_id", "partition_key", "payload") if name in schema.names]


@dataclass(frozen=True, slots=True)
class UserRows:
    """The rows of a table that are about some users: a mask, and how many there are by user."""

    mask: npt.NDArray[np.bool_]
    counts: Counter[str]


def about(table: pa.Table, users: Set[str]) -> UserRows:
    """Return the rows about users: by `user_id`, and for quarantined records also by their key and payload."""
    columns = user_columns(table.schema)
    ids = pa.array(sorted(users), pa.string())
    equal = [column for column in columns if column != "payload"]
    found = np.zeros(table.num_rows, dtype=bool)
    for name in equal:
        found |= pc.fill_null(pc.is_in(table[name], value_set=ids), False).to_numpy(zero_copy_only=False)
    if columns == ["user_id"]:
        counted = pc.value_counts(table["user_id"].filter(pa.array(found)))
        return UserRows(found, Counter({one["values"]: one["counts"] for one in counted.to_pylist()}))
    counts: Counter[str] = Counter()
    payloads = table["payload"].to_pylist() if "payload" in columns else [None] * table.num_rows
    keys = [table[name].to_pylist() for name in equal]
    for row, payload in enumerate(payloads):
        own = {column[row] for column in keys} & users if found[row] else set()
        if payload is not None:
            own |= mentioned(_unescaped(payload), users)
        found[row] = bool(own)
        counts.update(own)
    return UserRows(found, counts)


_ESCAPE = re.compile(rb"\\u00([0-7][0-9a-fA-F])")


def _unescaped(data: bytes) -> bytes:
    """Return JSON bytes with escaped ASCII letters and digits unescaped: `\\u0075` becomes `u`."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), data)
