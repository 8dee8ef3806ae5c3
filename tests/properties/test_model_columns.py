"""A feature's values are the same column for a model, bit for bit, whichever way they came."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given

from stillpoint.app.records import Feature, View
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.errors import CorruptData
from stillpoint.features.columns import embeddings_array
from stillpoint.features.model_columns import feature_column, number_block
from stillpoint.features.on_demand import _column as frame_column
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.query import compile_query
from stillpoint.stores.reading.replies import GroupReplies
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.values.encode import encode_value
from stillpoint.stores.values.times import encode_time
from tests.support.wellness import APP, CONTENT_PROFILES

NOW_US = 1_790_000_000_000_000
VALUES: dict[DType, st.SearchStrategy[Any]] = {
    DType.INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300),
    DType.FLOAT64: st.floats(allow_nan=False),
    DType.BOOL: st.booleans(),
    DType.STRING: st.text(max_size=20),
    DType.EMBEDDING: st.floats(width=32, allow_nan=False).map(
        lambda first: [first, *[0.25] * (EMBEDDING_LENGTH - 2), -0.0]
    ),
    DType.STRINGS: st.lists(st.text(max_size=20), max_size=3),
    DType.INT64S: st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    DType.FLOAT64S: st.lists(st.floats(allow_nan=False), max_size=3),
}
ARROW = {
    DType.INT64: pa.int64(),
    DType.FLOAT64: pa.float64(),
    DType.BOOL: pa.bool_(),
    DType.STRING: pa.string(),
    DType.STRINGS: pa.list_(pa.string()),
    DType.INT64S: pa.list_(pa.int64()),
    DType.FLOAT64S: pa.list_(pa.float64()),
}
FEATURES = {
    DType.INT64: "plays_7d",
    DType.FLOAT64: "duration_seconds",
    DType.STRING: "category",
    DType.EMBEDDING: "title_embedding",
}
"""A feature that on-demand features read, by type; none of them is a flag."""


def online(dtype: DType, values: Sequence[Any]) -> OnlineColumns:
    """Return an online read of a feature with those values, as Redis would have given it."""
    feature = Feature(name="f", dtype=dtype, unit="", description="")
    view = View(
        name="v",
        entity=CONTENT_PROFILES.entity,
        origin=CONTENT_PROFILES.origin,
        ttl=None,
        features=(feature,),
        description="",
    )
    plan = ReadPlan("p", (ViewLayout.of(view),))
    query = compile_query(plan, plan.select(["v"]), created=False)
    (group,) = query.groups
    kind = group.columns[0].type
    flat: list[bytes | None] = []
    for value in values:
        flat += [None if value is None else encode_value(kind, value), encode_time(NOW_US)]
    keys = [b"%d" % row for row in range(len(values))]
    replies = GroupReplies(group, keys, None, flat, NOW_US, Mode.ENFORCE)
    return OnlineColumns(query, {}, len(values), [replies], fill_marker=None, now_us=NOW_US, mode=Mode.ENFORCE)


def arrow(dtype: DType, values: Sequence[Any]) -> pa.Array:
    if dtype is DType.EMBEDDING:
        return embeddings_array([None if one is None else np.array(one, np.float32) for one in values])
    return pa.array(values, ARROW[dtype])


WAYS: dict[str, Callable[[DType, Sequence[Any]], npt.NDArray[Any]]] = {
    "the lake": lambda dtype, values: feature_column("f", dtype, arrow(dtype, values)),
    "a slice of the lake": lambda dtype, values: feature_column("f", dtype, arrow(dtype, [None, *values])[1:]),
    "Redis": lambda dtype, values: feature_column("f", dtype, online(dtype, values).column("f")),
    "Redis, exact": lambda dtype, values: feature_column("f", dtype, online(dtype, values).values("f")),
    "the served log": lambda dtype, values: feature_column("f", dtype, json.loads(json.dumps(values))),
}


def bits(column: npt.NDArray[Any]) -> tuple[Any, ...]:
    return column.shape, column.dtype, column.tolist() if column.dtype == object else column.tobytes()


@given(st.data(), st.sampled_from(DType))
def test_every_way_gives_the_same_column(data: st.DataObject, dtype: DType) -> None:
    values = data.draw(st.lists(st.none() | VALUES[dtype], min_size=1, max_size=12))
    expected = bits(feature_column("f", dtype, values))
    for way, read in WAYS.items():
        assert bits(read(dtype, values)) == expected, way
    if dtype in (DType.INT64, DType.FLOAT64, DType.BOOL):
        assert bits(number_block([values, values])[1]) == expected


@given(st.data(), st.sampled_from(sorted(FEATURES)))
def test_a_frame_of_feast_gives_the_same_column(data: st.DataObject, dtype: DType) -> None:
    values = data.draw(st.lists(st.none() | VALUES[dtype], min_size=1, max_size=12))
    expected = bits(feature_column("f", dtype, values))
    nullable = {DType.INT64: "Int64", DType.FLOAT64: "Float64", DType.STRING: "string"}
    series = [pd.Series(values, dtype=object)]
    series += [pd.Series(values, dtype=nullable[dtype])] if dtype in nullable else []
    for one in series:
        assert bits(frame_column(APP.features, one, FEATURES[dtype])) == expected, one.dtype


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [0, 1, 255, 257])
def test_a_vector_of_another_length_is_refused_and_empties_no_other(way: str, length: int) -> None:
    read = WAYS[way]
    if way in ("the lake", "a slice of the lake"):
        array = pa.array([None, [1.0] * EMBEDDING_LENGTH, [1.0] * length], pa.list_(pa.float32()))

        def read(dtype: DType, values: Sequence[Any]) -> npt.NDArray[Any]:
            return feature_column("f", dtype, array)

    with pytest.raises(CorruptData, match=rf"feature f, row 2: a vector of {length} numbers; expected 256"):
        read(DType.EMBEDDING, [None, [1.0] * EMBEDDING_LENGTH, [1.0] * length])


@pytest.mark.parametrize(
    "values", [["1.5"], pa.array(["1.5"]), np.array(["1.5"], object)], ids=["list", "arrow", "array"]
)
def test_text_is_no_number(values: Any) -> None:
    with pytest.raises(CorruptData, match=r"feature f, row 0: '1\.5' is no number"):
        feature_column("f", DType.FLOAT64, values)
