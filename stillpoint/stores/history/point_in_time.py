"""The point-in-time join: for an entity and a time, the newest source row that was known then. (pure)

Arithmetic over numpy arrays. Source rows and questions (spine rows) carry an entity *code*: a dense integer
that stands for one combination of join key values, so composite keys cannot collide and a null key (code -1) matches
nothing. Times are microseconds since 1970 UTC.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]

NONE = -1
"""The index that means "no row", and the code of an entity with a null key."""

UNKNOWN = np.iinfo(np.int64).min
"""The created time of a row whose created timestamp is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The source's rows in the order in which they are stored. `created` is None if the source records none."""

    code: Ints
    event: Ints
    created: Ints | None = None

    def __len__(self) -> int:
        return len(self.code)

    def take(self, which: npt.NDArray[np.bool_]) -> "Rows":
        """Return the rows where `which` is true."""
        created = None if self.created is None else self.created[which]
        return Rows(code=self.code[which], event=self.event[which], created=created)


def as_of(rows: Rows, *, code: Ints, time: Ints, ttl: int | None, cutoff: bool) -> Ints:
    """Return for each question (`code`, `time`) the index of the answering row, or `NONE`.

    The answer is the row of the entity with the greatest (event, created, position) among those with event ≤ time and,
    with `cutoff`, created ≤ time, so that later corrections are left out. There is no answer if that row's age exceeds
    `ttl` (an age of exactly `ttl` is accepted). With `cutoff`, a row without a created time is never known; a source
    without created times at all is unaffected.

    >>> rows = Rows(code=np.array([0, 0]), event=np.array([10, 20]))
    >>> as_of(rows, code=np.array([0, 0, 1]), time=np.array([15, 5, 15]), ttl=None, cutoff=False).tolist()
    [0, -1, -1]
    """
    if cutoff and rows.created is not None:
        return _as_of_known(rows, code, time, ttl)
    scale = _Scale.of(rows.event, highest_code=_highest(rows.code, code))
    packed = scale.pack(rows.code, rows.event)
    order = _newest_last(packed, rows.created)
    found = _last_at_or_before(packed[order], scale, code, time)
    if not len(rows):
        return found
    return _young_enough(rows, np.where(found == NONE, NONE, order[found]), code, time, ttl)


def _as_of_known(rows: Rows, code: Ints, time: Ints, ttl: int | None) -> Ints:
    """Answer with the cutoff: search by the time at which rows became known, in the running maximum of event times.

    Rows of one event time become known in the order of their created times, so the last row that holds the maximum is
    the newest. Packed events begin with the code, so the running maximum never carries over into the next entity.
    """
    assert rows.created is not None
    usable = np.flatnonzero(rows.created != UNKNOWN)
    if len(usable) < len(rows):
        answer = _as_of_known(rows.take(rows.created != UNKNOWN), code, time, ttl)
        return np.where(answer == NONE, NONE, usable[answer]) if len(usable) else answer
    known = np.maximum(rows.event, rows.created)
    highest = _highest(rows.code, code)
    scale = _Scale.of(known, highest_code=highest)
    packed = scale.pack(rows.code, known)
    learned = _newest_last(packed, rows.created)
    events = _Scale.of(rows.event, highest_code=highest).pack(rows.code, rows.event)[learned]
    holds = events == np.maximum.accumulate(events)
    found = _last_at_or_before(packed[learned], scale, code, time)
    if not len(rows):
        return found
    newest = learned[np.maximum.accumulate(np.where(holds, np.arange(len(rows), dtype=np.int64), 0))]
    return _young_enough(rows, np.where(found == NONE, NONE, newest[found]), code, time, ttl)


def _highest(*codes: Ints) -> int:
    return max((int(part.max()) for part in codes if len(part)), default=0)


def _young_enough(rows: Rows, answer: Ints, code: Ints, time: Ints, ttl: int | None) -> Ints:
    """Keep the answers that belong to the question's entity and are within the time-to-live."""
    good = (answer != NONE) & (code != NONE) & (rows.code[answer] == code)
    if ttl is not None:
        good &= time - rows.event[answer] <= ttl
    return np.where(good, answer, NONE)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Packs a code and a time into one integer that sorts like the pair.

    `times` holds the distinct times when the range is too wide for the bits beside the codes; then ranks are packed.
    """

    first: int
    bits: int
    times: Ints | None

    @classmethod
    def of(cls, times: Ints, *, highest_code: int) -> "_Scale":
        if not len(times):
            return cls(0, 1, None)
        first = int(times.min())
        bits = max(1, (int(times.max()) - first).bit_length())
        if bits + highest_code.bit_length() <= 63:
            return cls(first, bits, None)
        distinct = np.unique(times)
        return cls(0, max(1, len(distinct).bit_length()), distinct)

    def pack(self, code: Ints, time: Ints) -> Ints:
        place = time - self.first if self.times is None else np.searchsorted(self.times, time)
        return (code << self.bits) | place

    def pack_question(self, code: Ints, time: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return the packed questions, and which of them lie before all rows."""
        place = time - self.first if self.times is None else np.searchsorted(self.times, time, side="right") - 1
        early = place < 0
        return (code << self.bits) | np.clip(place, 0, (1 << self.bits) - 1), early


def _last_at_or_before(packed: Ints, scale: _Scale, code: Ints, time: Ints) -> Ints:
    """Return the last position in `packed` (sorted) that is not after each question, or `NONE`."""
    question, early = scale.pack_question(code, time)
    # Searching in sorted order uses the processor's cache: twice as fast as in random order.
    order = _argsort(question)
    found = np.empty(len(question), dtype=np.int64)
    found[order] = np.searchsorted(packed, question[order], side="right") - 1
    found[early] = NONE
    return found


def _newest_last(packed: Ints, created: Ints | None) -> Ints:
    """Sort by (packed, created, position). Only rows of equal code and event time need the last two."""
    order = _argsort(packed)
    in_order = packed[order]
    equal = in_order[1:] == in_order[:-1]
    if not equal.any():
        return order
    tied = np.zeros(len(order), dtype=np.bool_)
    tied[1:] |= equal
    tied[:-1] |= equal
    rows = order[tied]
    by_created = (created[rows],) if created is not None else ()
    order[tied] = rows[np.lexsort((rows, *by_created, packed[rows]))]
    return order


def _argsort(values: Ints) -> Ints:
    """Sort with all cores. Not stable."""
    return pl.Series(values).arg_sort().to_numpy().astype(np.int64)
