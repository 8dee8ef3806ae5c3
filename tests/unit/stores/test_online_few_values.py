"""The quick ways of reading one entity give what the plain ways give, and find what is corrupt."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from redis.exceptions import ResponseError

from stillpoint.errors import CorruptData
from stillpoint.stores.redis.command import pack
from stillpoint.stores.redis.hash_read import WORTH_WHOLE, HashRead, WholeHash
from stillpoint.stores.values.encode import encode_value
from stillpoint.stores.values.few import KEPT, KNOWN, QUICK, decode_few
from stillpoint.stores.values.python import decode_value
from stillpoint.stores.values.times import _any_time, decode_time, encode_time
from stillpoint.stores.values.types import ValueType

VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300),
    ValueType.BOOL: st.booleans(),
    ValueType.DOUBLE: st.floats(allow_nan=False),
    ValueType.FLOAT: st.floats(width=32, allow_nan=False),
    ValueType.STRING: st.text(max_size=200),
}


def test_every_quick_type_is_tried_here() -> None:
    assert set(VALUES) == QUICK


@given(st.data(), st.sampled_from(sorted(VALUES)))
def test_few_values_are_decoded_as_each_alone(data: st.DataObject, type: ValueType) -> None:
    values = data.draw(st.lists(st.none() | VALUES[type], max_size=8))
    stored = [encode_value(type, value) or None for value in values]
    assert decode_few(type, stored) == [decode_value(one) for one in stored]
    assert [kind.__class__ for kind in decode_few(type, stored)] == [decode_value(one).__class__ for one in stored]


@given(st.sampled_from(sorted(VALUES)), st.sampled_from(sorted(VALUES)), st.integers(1, 6), st.binary(max_size=3))
def test_bytes_that_are_no_value_of_the_type_are_refused(
    type: ValueType, other: ValueType, cut: int, after: bytes
) -> None:
    good = encode_value(type, {ValueType.STRING: "words enough", ValueType.BOOL: True}.get(type, 77))
    broken = [good[:cut] if cut < len(good) else b"\xff"]
    if type is not ValueType.STRING:  # there it may be a field that is not known, as to protobuf
        broken.append(good + b"\x80" + after)
    if other is not type:
        broken.append(encode_value(other, {ValueType.STRING: "words", ValueType.BOOL: True}.get(other, 77)))
    for bad in broken:
        with pytest.raises((CorruptData, ValueError)):
            decode_few(type, [good, bad])


@given(st.binary(max_size=4), st.integers(-(2**40), 2**52), st.integers(0, 11))
def test_a_usual_time_is_decoded_as_any_other_whatever_its_bytes(noise: bytes, micros: int, place: int) -> None:
    stored = encode_time(micros)
    for data in (stored, stored[:place] + noise + stored[place + len(noise) :]):
        assert outcome(decode_time, data) == outcome(_any_time, data)


def outcome(decode: Any, data: bytes) -> Any:
    try:
        return decode(data)
    except CorruptData:
        return "corrupt"


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=12), st.sets(st.integers(0, 5)))
def test_a_whole_hash_is_picked_whatever_its_order_and_what_it_lacks(
    orders: list[list[int]], lacking: set[int]
) -> None:
    whole = WholeHash([b"2", b"9", b"0", b"4"])
    for order in orders:
        held = {b"%d" % number: b"value %d" % number for number in order if number not in lacking}
        expected = [held.get(field) for field in (b"2", b"9", b"0", b"4")]
        assert list(whole.pick([part for pair in held.items() for part in pair])) == expected
        assert list(whole.pick(held)) == expected


@pytest.mark.parametrize("encoding", [None, b"listpack", b"ziplist", b"hashtable", ResponseError("NOPERM")])
@given(keys=st.lists(st.binary(max_size=300)), fields=st.lists(st.binary(max_size=30), min_size=1, max_size=60))
def test_hashes_are_read_whole_once_they_are_known_to_be_compact_and_worth_it(
    encoding: Any, keys: list[bytes], fields: list[bytes]
) -> None:
    read = HashRead(fields)
    by_field = [pack(b"HMGET", key, *fields) for key in keys]
    assert [command.data for command in read.commands(keys)] == by_field
    assert read.undecided == (len(fields) >= WORTH_WHOLE)
    if not read.undecided:
        return
    read.learn(encoding)
    whole = encoding in (b"listpack", b"ziplist")
    assert read.undecided == (encoding is None)
    assert [command.data for command in read.commands(keys)] == (
        [pack(b"HGETALL", key) for key in keys] if whole else by_field
    )
    assert [command.key for command in read.commands(keys)] == keys


def test_many_different_numbers_are_not_all_remembered() -> None:
    for start in range(0, 20_000, 1000):
        numbers = list(range(start, start + 1000))
        assert decode_few(ValueType.INT64, [encode_value(ValueType.INT64, one) for one in numbers]) == numbers
    assert len(KNOWN[ValueType.INT64]) <= KEPT
