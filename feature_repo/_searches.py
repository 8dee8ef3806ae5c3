"""What the user searched for lately, as one direction: the arithmetic of `search_embeddings`.

As of t: the last five searches in (t − 24 h, t], newest first, of one time the greater event id first, weighted
1, ½, ¼, … and normalised. A search whose text has no known word takes its place and adds nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stillpoint.clock import DAY
from stillpoint.dtypes import EMBEDDING_LENGTH
from stillpoint.features.streamed.definition import Row

WINDOW_US = DAY
SEARCHES_EMBEDDED = 5


class SearchMade(NamedTuple):
    """One search. `embedding` holds 256 float32, or nothing if the text has no known word (or is no longer needed)."""

    event_us: int
    key: bytes
    arrived_us: int
    embedding: bytes


def embedding_bytes(vector: npt.NDArray[np.float32]) -> bytes:
    """Return an encoder's row as bytes; empty for a row of NaN."""
    return b"" if np.isnan(vector[0]) else vector.astype("<f4").tobytes()


def rows(user_id: str, searches: Sequence[SearchMade], *, since_us: int = -1) -> list[Row]:
    """Return a row for each time of `searches` (sorted) that one which arrived after `since_us` can have changed."""
    times = [one.event_us for one in searches]
    arrivals = [one.arrived_us for one in searches]
    found = []
    for last in moment_ends(times):
        first = bisect_right(times, times[last] - WINDOW_US)
        created_us = max(arrivals[first : last + 1])
        if created_us > since_us:
            newest = searches[max(first, last + 1 - SEARCHES_EMBEDDED) : last + 1]
            embedding = blend([one.embedding for one in reversed(newest)])
            found.append((user_id, times[last], created_us, embedding, last + 1 - first))
    return found


def moment_ends(times: Sequence[int]) -> list[int]:
    """Return the last index of each distinct time in sorted `times`."""
    return [i for i, (a, b) in enumerate(pairwise(times)) if a != b] + ([len(times) - 1] if times else [])


def blend(newest_first: Sequence[bytes]) -> npt.NDArray[np.float32] | None:
    """Return the normalised weighted sum of embeddings, or None if nothing is left of it.

    Added in float64 in the order given; the norm's sum is rounded once (`math.fsum`), so the bits depend on no machine.
    """
    total = np.zeros(EMBEDDING_LENGTH)
    weight = 1.0
    for embedding in newest_first:
        if embedding:
            total += weight * np.frombuffer(embedding, dtype="<f4").astype(np.float64)
        weight /= 2
    norm = math.sqrt(math.fsum((total * total).tolist()))
    return None if norm == 0.0 else (total / norm).astype(np.float32)


def keep(searches: Sequence[SearchMade], floor_us: int) -> list[SearchMade]:
    """Return what later rows need if no search before `floor_us` can come: 24 h of times, embeddings of the last five.

    Searches from `floor_us` on stay whole; so do the five before; older ones keep their times only.
    """
    times = [one.event_us for one in searches]
    first = bisect_right(times, floor_us - WINDOW_US)
    whole = max(first, bisect_right(times, floor_us - 1) - SEARCHES_EMBEDDED)
    older = sorted(one._replace(key=b"", embedding=b"") for one in searches[first:whole])
    return older + list(searches[whole:])
