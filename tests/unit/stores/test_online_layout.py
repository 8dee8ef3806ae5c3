"""Keys, fields, times and values have Feast's bytes, and corrupt ones are found."""

import contextlib
import json
from datetime import UTC, datetime

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from stillpoint.errors import CorruptData, InvalidInput, PlanRefused, UnknownFeature
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import (
    Column,
    ViewLayout,
    decode_created,
    describe_key,
    encode_created,
    feature_field,
    parse_key,
)
from stillpoint.stores.redis.writer import encode_rows
from stillpoint.stores.values.columns import decode_numbers, decode_times, decode_vectors, encode_column
from stillpoint.stores.values.decode import read_value
from stillpoint.stores.values.encode import encode_value
from stillpoint.stores.values.python import decode_value
from stillpoint.stores.values.times import decode_time, encode_time
from stillpoint.stores.values.types import ValueType
from tests.support.wellness import BIOMETRICS, FEATURES

micros = st.integers(-(10**15), 9 * 10**15)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_a_field_is_the_murmur_hash_that_feast_computes(view: str, feature: str) -> None:
    assert feature_field(view, feature) == mmh3.hash(f"{view}:{feature}", signed=False).to_bytes(4, "little")


@given(micros)
def test_a_time_has_the_bytes_of_a_protobuf_timestamp(value: int) -> None:
    stamp = Timestamp()
    stamp.FromMicroseconds(value)
    assert encode_time(value) == stamp.SerializeToString()
    assert decode_time(encode_time(value)) == value


@given(st.lists(st.none() | micros | st.integers(10**15, 2 * 10**15), min_size=97, max_size=200))
def test_many_times_are_decoded_as_each_alone(values: list[int | None]) -> None:
    stored = [None if value is None else encode_time(value) for value in values]
    assert decode_times(stored, -1).tolist() == [-1 if value is None else value for value in values]


@given(st.lists(st.none() | st.integers(10**15, 2 * 10**15), min_size=97, max_size=150))
def test_many_usual_times_are_decoded_as_each_alone(values: list[int | None]) -> None:
    stored = [None if value is None else encode_time(value) for value in values]
    assert decode_times(stored, -1).tolist() == [-1 if value is None else value for value in values]


@pytest.mark.parametrize("broken", [b"\x08", b"\x08\xff", b"\x09\x01", b"junk", b"\x08\x80\x80\x80\x80\x01\x10"])
def test_a_broken_time_is_refused_alone_and_among_many(broken: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_time(broken)
    with pytest.raises(CorruptData):
        decode_times([encode_time(1_700_000_000_000_000)] * 120 + [broken], -1)


@given(micros, micros, micros)
def test_a_created_time_is_trusted_only_with_its_own_event_time(created: int, event: int, other: int) -> None:
    stored = encode_created(created, encode_time(event))
    assert decode_created(stored, encode_time(event)) == created
    assert decode_created(stored, None) is None
    if other != event:
        assert decode_created(stored, encode_time(other)) is None


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=80))
def test_columns_of_integers_decode_as_they_were_encoded(values: list[int | None]) -> None:
    stored = encode_column(ValueType.INT64, pa.array(values, pa.int64()))
    assert stored == [encode_value(ValueType.INT64, value) for value in values]
    numbers, missing = decode_numbers(ValueType.INT64, stored)
    assert [None if gone else value for value, gone in zip(numbers.tolist(), missing.tolist(), strict=True)] == values


@pytest.mark.parametrize(
    "stored", [b"\x20", b"\x20\x80", b"\x28\x01", b"\x20\x01\x01", b"\x20" + b"\x80" * 11 + b"\x01", b"\x00"]
)
def test_bytes_that_are_no_integer_are_refused(stored: bytes) -> None:
    with pytest.raises(CorruptData):
        decode_numbers(ValueType.INT64, [b"\x20\x05", stored])


def test_vectors_decode_to_a_block_with_nan_where_null() -> None:
    rows = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32()))
    block = decode_vectors(encode_column(ValueType.FLOAT_LIST, rows))
    assert block is not None
    np.testing.assert_array_equal(block, np.array([[1, 2], [np.nan, np.nan], [3, 4]], np.float32))


def test_vectors_of_different_lengths_are_left_to_one_by_one() -> None:
    rows = pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32()))
    assert decode_vectors(encode_column(ValueType.FLOAT_LIST, rows)) is None


@given(st.binary(max_size=30))
def test_any_bytes_are_a_value_or_corrupt_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(CorruptData):
        read_value(data)


def test_nan_is_null_in_a_number_and_null_is_not_zero() -> None:
    assert encode_column(ValueType.DOUBLE, pa.array([float("nan"), None, 0.0])) == [b"", b"", b"\x29" + bytes(8)]
    assert decode_value(b"") is None


@pytest.mark.parametrize(
    ("type", "column"),
    [
        (ValueType.INT64, pa.array(["5"])),
        (ValueType.STRING, pa.array([5])),
        (ValueType.INT64, pa.array([1.5])),
        (ValueType.INT32, pa.array([2**40])),
        (ValueType.BOOL, pa.array([2])),
        (ValueType.FLOAT_LIST, pa.array(["x"])),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(type: ValueType, column: pa.Array) -> None:
    with pytest.raises(InvalidInput, match=f"expected {type}"):
        encode_column(type, column)


def test_a_key_is_read_back_and_the_project_is_exact() -> None:
    layout = ViewLayout("v", (Column("b", ValueType.INT64), Column("a", ValueType.STRING)), ())
    (key,) = encode_keys(layout, pa.table({"b": [-3], "a": ["ü"]}), "shadow_green")
    names, _, project = parse_key(key) or ((), (), b"")
    assert (names, project) == (("a", "b"), b"shadow_green")
    assert describe_key(key) == "a=ü, b=-3"
    assert parse_key(b"stillpoint:rec:u1") is None


def test_a_null_join_key_is_refused_with_view_and_row() -> None:
    layout = ViewLayout("v", (Column("user_id", ValueType.STRING),), ())
    with pytest.raises(InvalidInput, match="view v: join key user_id of row 1 is null; expected STRING"):
        encode_keys(layout, pa.table({"user_id": ["u", None]}), "p")


def test_a_time_without_a_zone_and_a_missing_column_are_refused() -> None:
    layout = ViewLayout.of(BIOMETRICS)
    with pytest.raises(InvalidInput, match=r"view biometrics: column heart_rate_mean_10m, .* is missing"):
        encode_rows(layout, pa.table({"user_id": ["u"], "event_timestamp": [datetime(2026, 1, 1, tzinfo=UTC)]}), "p")
    table = {"user_id": ["u"], "event_timestamp": pa.array([0], pa.timestamp("us"))}
    table |= {feature.name: pa.nulls(1) for feature in BIOMETRICS}
    with pytest.raises(
        InvalidInput, match=r"event_timestamp has type timestamp.us.; expected timestamp with a time zone"
    ):
        encode_rows(layout, pa.table(table), "p")


def test_a_key_of_a_type_that_cannot_be_a_key_is_refused() -> None:
    with pytest.raises(InvalidInput, match="join key k has type DOUBLE"):
        ViewLayout("v", (Column("k", ValueType.DOUBLE),), ())


def test_two_features_in_one_field_are_refused_by_name() -> None:
    first, second = colliding()
    views = tuple(
        ViewLayout("v", (Column("k", ValueType.STRING),), (Column(name, ValueType.INT64),)) for name in (first, second)
    )
    with pytest.raises(PlanRefused, match=f"feature v:{second} and feature v:{first} have the same 4-byte hash field"):
        ReadPlan("p", views)


def colliding() -> tuple[str, str]:
    """Find two feature names of view `v` with one hash (a birthday among 2**32 needs about 80,000 names)."""
    seen: dict[int, str] = {}
    for number in range(1_000_000):
        name = f"f{number}"
        other = seen.setdefault(mmh3.hash(f"v:{name}"), name)
        if other != name:
            return other, name
    raise AssertionError("no collision found")


def test_a_plan_survives_json_and_its_digest_is_demanded() -> None:
    plan = ReadPlan.of_features("stillpoint_green", FEATURES)
    assert ReadPlan.from_json(plan.to_json(), expected_sha256=plan.sha256) == plan
    with pytest.raises(CorruptData, match="expected 00"):
        ReadPlan.from_json(plan.to_json(), expected_sha256="00")
    with pytest.raises(CorruptData, match="is no read plan"):
        ReadPlan.from_json(b"{}")
    document = plan.to_document()
    document["views"][0]["features"][0]["field"] = "00000000"
    with pytest.raises(CorruptData, match="has field 00000000; expected"):
        ReadPlan.from_json(json.dumps(document))


def test_what_the_plan_does_not_have_is_named() -> None:
    plan = ReadPlan.of_features("stillpoint_green", FEATURES)
    for asked, words in (
        ("nope", "no feature service 'nope'"),
        (["nope:x"], "no feature view 'nope'"),
        (["biometrics:x"], "no feature 'x'"),
    ):
        with pytest.raises(UnknownFeature, match=words):
            plan.select(asked)
