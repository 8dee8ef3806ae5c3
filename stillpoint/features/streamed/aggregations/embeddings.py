"""What were the latest texts about, as one direction in the encoder's space?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from stillpoint.dtypes import DType, Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries
from stillpoint.features.streamed.aggregations.order import Placed


@dataclass(frozen=True, slots=True)
class BlendedEmbedding(Aggregation[list[Placed]]):
    """The normalised sum of the embeddings of the latest texts, weighted 1, decay, decay² … from the newest on.

    Values are the bytes of float32 vectors, empty for a text without a known word: it takes its place and adds nothing.
    Null without any text, or if nothing is left of the sum.
    """

    count: int
    decay: float
    name = "blended_embedding"
    ordered = True
    takes: ClassVar[frozenset[Kind] | None] = frozenset({Kind.TEXT})

    @property
    def newest(self) -> int:
        return self.count

    def dtype(self, kind: Kind | None) -> DType:
        return DType.EMBEDDING

    def summary(self, entries: Entries, first: int, end: int) -> list[Placed]:
        start = max(first, end - self.count)
        return [(entries.times[i], entries.key(i), entries.values[i]) for i in range(end - 1, start - 1, -1)]

    def join(self, older: list[Placed], newer: list[Placed]) -> list[Placed]:
        both = sorted(older + newer, key=lambda one: one[:2], reverse=True)
        return both[: self.count]

    def value(
        self, whole: list[Placed] | None, newer: list[Placed] | None, at_us: int
    ) -> npt.NDArray[np.float32] | None:
        return None if whole is None else blend([value for _, _, value in whole], self.decay)

    def unpack(self, packed: Any) -> list[Placed]:
        return [tuple(one) for one in packed]

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return -1, 1


def embedding_bytes(vector: npt.NDArray[np.float32]) -> bytes:
    """Return an encoder's row as bytes; empty for a row of NaN."""
    return b"" if np.isnan(vector[0]) else vector.astype("<f4").tobytes()


def blend(newest_first: Sequence[bytes], decay: float) -> npt.NDArray[np.float32] | None:
    """Return the normalised weighted sum of embeddings, or None if nothing is left of it.

    Added in float64 in the order given; the norm's sum is rounded once, so the bits depend on no machine.
    """
    known = next((embedding for embedding in newest_first if embedding), None)
    if known is None:
        return None
    total = np.zeros(len(known) // 4)
    weight = 1.0
    for embedding in newest_first:
        if embedding:
            total += weight * np.frombuffer(embedding, dtype="<f4").astype(np.float64)
        weight *= decay
    norm = math.sqrt(math.fsum((total * total).tolist()))
    return None if norm == 0.0 else (total / norm).astype(np.float32)
