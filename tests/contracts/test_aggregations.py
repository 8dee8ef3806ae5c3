"""Every aggregation keeps the contract: the same bits, however a window's events are cut, packed and joined."""

import random
import struct
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillpoint.dtypes import DType, Kind
from stillpoint.features.streamed.aggregations import changes, counting, embeddings, frequency, numbers, order, own
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries

FLOATS = st.sampled_from([0.0, 0.1, 0.2, 1e16, -1e16, 1e-300, 5e-324, 3.0]) | st.floats(-1e9, 1e9).map(
    lambda x: x + 0.0
)
VALUES = {
    Kind.NUMBER: FLOATS,
    Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
    Kind.TEXT: st.sampled_from("abc"),
    Kind.FLAG: st.booleans(),
    None: st.just(True),
}
EVERY = [
    (counting.Count(), None),
    (counting.Exists(), None),
    (counting.CountDistinct(), Kind.TEXT),
    (counting.Share(), "pair"),
    (numbers.Sum(), Kind.NUMBER),
    (numbers.IntegerSum(), Kind.INTEGER),
    (numbers.Mean(), Kind.NUMBER),
    (numbers.Mean(), Kind.INTEGER),
    (numbers.StandardDeviation(), Kind.NUMBER),
    (numbers.Minimum(), Kind.NUMBER),
    (numbers.Maximum(), Kind.INTEGER),
    (changes.Slope(), Kind.NUMBER),
    (changes.NewerMinusOlder(), Kind.NUMBER),
    (changes.IntegerNewerMinusOlder(), Kind.INTEGER),
    (order.First(), Kind.TEXT),
    (order.Last(), Kind.NUMBER),
    (order.LastN(2), Kind.INTEGER),
    (order.TimeSinceLast(), None),
    (order.TimeSinceFirst(), None),
    (frequency.MostFrequent(), Kind.TEXT),
    (embeddings.BlendedEmbedding(2, 0.5), "vector"),
    (own.Own(lambda events, at_us: len(events), DType.INT64), None),
]


def below(kind):
    return [kind, *(one for part in kind.__subclasses__() for one in below(part))]


def test_every_aggregation_is_put_to_the_test():
    """A slotted dataclass exists twice, so names are compared."""
    names = {kind.__name__ for kind in below(Aggregation) if "stillpoint" in kind.__module__} - {"Aggregation"}
    assert {name for name in names if not name.startswith("_")} == {type(one).__name__ for one, _ in EVERY}


def values(kind):
    if kind == "pair":
        return st.tuples(st.booleans(), st.sampled_from("abc"))
    if kind == "vector":
        return st.sampled_from([b"", struct.pack("<4f", 1, 2, 0, 0), struct.pack("<4f", -1, 0, 0.1, 0)])
    return VALUES[kind]


def plain(found):
    return found.tobytes() if hasattr(found, "tobytes") else repr(found)


@pytest.mark.parametrize(("aggregation", "kind"), EVERY, ids=lambda one: getattr(one, "name", str(one)))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cut_packed_and_joined_it_gives_the_same_bits(aggregation, kind, data):
    events = data.draw(st.lists(st.tuples(st.integers(0, 50), values(kind)), min_size=1, max_size=12))
    events = sorted((time, bytes([place]) * 16, value) for place, (time, value) in enumerate(events))
    entries = Entries([e[0] for e in events], [e[2] for e in events], [e[1] for e in events])
    cuts = sorted(data.draw(st.sets(st.integers(1, len(events)), max_size=4)) | {0, len(events)})
    runs = list(pairwise(cuts))
    tiles = [(n, aggregation.summary(entries, a, b)) for n, (a, b) in enumerate(runs)]

    def stored(one):
        if isinstance(aggregation, own.Own):
            return one
        packed = msgpack.packb(aggregation.pack(one))
        again = aggregation.unpack(msgpack.unpackb(packed, strict_map_key=False))
        assert msgpack.packb(aggregation.pack(again)) == packed
        return again

    for start in range(len(runs)):
        whole = aggregation.summary(entries, runs[start][0], len(events))
        newer = aggregation.summary(entries, len(events) // 2, len(events)) if aggregation.halves else None
        joined = aggregation.join_all([stored(one) for place, one in tiles if place >= start])
        expected = plain(aggregation.value(whole, newer, 60))
        assert plain(aggregation.value(joined, newer, 60)) == expected
        kept = [one for place, one in aggregation.compact(list(tiles)) if place >= start]
        assert plain(aggregation.value(aggregation.join_all(kept), newer, 60)) == expected
        if not isinstance(aggregation, own.Own):
            other = [one for place, one in tiles if place >= start]
            random.Random(3).shuffle(other)
            assert plain(aggregation.value(aggregation.join_all(other), newer, 60)) == expected


@pytest.mark.parametrize(("aggregation", "kind"), EVERY, ids=lambda one: getattr(one, "name", str(one)))
def test_without_an_event_it_is_null_or_says_what_it_is(aggregation, kind):
    found = aggregation.value(None, None, 60)
    assert aggregation.never_null or found is None or isinstance(aggregation, own.Own)
    assert isinstance(aggregation.dtype(kind if isinstance(kind, Kind) else None), DType)
