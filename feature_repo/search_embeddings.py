"""The view `search_embeddings`: what the user searched for lately, as one direction in the encoder's space."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from stillpoint.app import CustomView, hours, user
from stillpoint.app.events import Arrival
from stillpoint.app.records import Feature
from stillpoint.dtypes import DType
from stillpoint.features.streamed.definition import Key, Row

from . import _searches as searches
from .events import Search

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder


class Searches:
    """The last five searches of 24 hours, weights halving with each."""

    def __init__(self, encoder: "Encoder | None" = None) -> None:
        self._encoder = encoder

    def rows(
        self, key: Key, part: list[searches.SearchMade], fresh: Sequence[Arrival]
    ) -> tuple[list[Row], list[searches.SearchMade]]:
        if self._encoder is None:
            raise ValueError("rows of search_embeddings need an encoder, and none was given")
        since_us = min(arrival.arrived_us for arrival in fresh) - 1
        vectors = self._encoder.encode([getattr(arrival.event, "query", "") for arrival in fresh])
        new = [
            searches.SearchMade(arrival.event_us, arrival.key, arrival.arrived_us, searches.embedding_bytes(vector))
            for arrival, vector in zip(fresh, vectors, strict=True)
        ]
        merged = sorted([*part, *new])
        return searches.rows(key[0], merged, since_us=since_us), merged

    def keep(self, part: list[searches.SearchMade], floor_us: int) -> list[searches.SearchMade]:
        return searches.keep(part, floor_us)

    def reach_us(self, part: list[searches.SearchMade]) -> int:
        return (part[-1].event_us if part else 0) + searches.WINDOW_US + 1

    def pack(self, part: list[searches.SearchMade]) -> bytes:
        newest = part[-1].event_us if part else 0
        head = b"\xd3" + newest.to_bytes(8, "big", signed=True)
        body = msgspec.msgpack.encode([(newest - s.event_us, s.arrived_us - newest, s.key, s.embedding) for s in part])
        return head + body

    def unpack(self, data: bytes) -> list[searches.SearchMade]:
        if not data:
            return []
        newest = int.from_bytes(data[1:9], "big", signed=True)
        return [
            searches.SearchMade(newest - age, key, newest + arrived, embedding)
            for age, arrived, key, embedding in msgspec.msgpack.decode(data[9:])
        ]


class SearchEmbeddings(CustomView):
    """What the user searched for lately, as one direction in the encoder's space."""

    entity, ttl, on, makes = user, hours(24), (Search,), Searches
    described = (
        Feature(
            name="search_embedding",
            dtype=DType.EMBEDDING,
            unit="unit vector",
            minimum=-1,
            maximum=1,
            null_when="no search in the window, or the weighted sum is zero",
            description="Normalised sum of the last five searches, weights halving with each.",
        ),
        Feature(
            name="search_count_24h",
            dtype=DType.INT64,
            unit="searches",
            minimum=0,
            description="Searches in the window.",
        ),
    )
