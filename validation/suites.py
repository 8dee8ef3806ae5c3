"""The expectation suite of each dataset, derived from the declarations.

A suite is a list of Great Expectations checks over a pandas frame, plus a key whose rows must agree. Nothing is written per feature:
a declared feature is covered at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pyarrow as pa
from great_expectations.expectations.expectation import Expectation

from stillpoint.app.events import ENVELOPE, Event
from stillpoint.app.feature_set import RANKER_SERVICE, FeatureSet, item_of
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.app.records import Feature, View
from stillpoint.clock import FUTURE_TOLERANCE
from stillpoint.dtypes import EMBEDDING_LENGTH, DType, Kind
from stillpoint.events.parsing import PayloadParser
from stillpoint.events.types import Verdict
from stillpoint.lake.tables import feature_columns
from stillpoint.messages import USER_ID_PATTERN
from validation.stream_rules import stream_refusals

NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Suite:
    """The checks of one dataset, applied to its rows as `frame` prepares them.

    Rows that agree on the `key` columns must be equal; with an empty key there is no such rule.
    """

    name: str
    columns: tuple[str, ...]
    checks: tuple[Expectation, ...]
    key: tuple[str, ...] = ()
    frame: Callable[[pa.Table], pd.DataFrame] = field(default_factory=lambda: checkable)


def view_suite(view: View) -> Suite:
    """Return the suite of `features/<view>/`, or of the online rows of the view."""
    columns = feature_columns(view).names
    keys = view.entity.keys
    checks: list[Expectation] = [
        gxe.ExpectTableColumnsToMatchSet(column_set=_checkable_columns(view), exact_match=True),
        *(gxe.ExpectColumnValuesToNotBeNull(column=key) for key in keys),
        gxe.ExpectColumnValuesToNotBeNull(column="event_timestamp"),
        gxe.ExpectColumnValuesToNotBeNull(column="created_timestamp"),
        gxe.ExpectColumnValuesToBeBetween(column=CREATED_BEFORE_EVENT, max_value=FUTURE_TOLERANCE.total_seconds()),
    ]
    if "user_id" in keys:
        checks.append(gxe.ExpectColumnValuesToMatchRegex(column="user_id", regex=USER_ID_PATTERN))
    for feature in view:
        checks += _feature_checks(feature)
    return Suite(
        name=f"features/{view.name}",
        columns=tuple(columns),
        checks=tuple(checks),
        key=(*keys, "event_timestamp", "created_timestamp"),
    )


def event_suite(events: Sequence[type[Event]]) -> Suite:
    """Return the suite of the lake's `events/`: the declarations of each column, and the stream's own rules for the row."""
    checks: list[Expectation] = [
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=name)
            for name in ("event_id", "user_id", "type", "event_timestamp", "arrived_at", "platform", "verdict")
        ),
        gxe.ExpectColumnValuesToMatchRegex(column="user_id", regex=USER_ID_PATTERN),
        gxe.ExpectColumnValuesToBeInSet(column="type", value_set=[event.type_name for event in events]),
        gxe.ExpectColumnValuesToBeInSet(
            column="verdict", value_set=[str(Verdict.ON_TIME), str(Verdict.DUPLICATE), str(Verdict.LATE)]
        ),
        *_column_checks(events),
        gxe.ExpectColumnValuesToBeBetween(column=CREATED_BEFORE_EVENT, max_value=FUTURE_TOLERANCE.total_seconds()),
        gxe.ExpectColumnValuesToBeNull(column=REFUSED_BY_STREAM),
    ]
    parser = PayloadParser(events)

    def frame(table: pa.Table) -> pd.DataFrame:
        return checkable(table).assign(**{REFUSED_BY_STREAM: pd.Series(stream_refusals(table, parser), dtype="object")})

    return Suite(name="events", columns=(), checks=tuple(checks), key=("shard", "sequence"), frame=frame)


def _column_checks(events: Sequence[type[Event]]) -> Iterator[Expectation]:
    """Yield the closed sets and ranges that hold for a column, whichever type a row is of."""
    columns: dict[str, list[FieldInfo]] = {}
    for event in events:
        for name, one in fields_of(event).items():
            columns.setdefault(name, []).append(one)
    for name, fields in columns.items():
        values = [one.values for one in fields if one.values is not None]
        if len(values) == len(fields):
            yield gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(dict.fromkeys(chain(*values))))
        numbers = all(one.kind in (Kind.INTEGER, Kind.NUMBER) for one in fields)
        lows, highs = [one.minimum for one in fields], [one.maximum for one in fields]
        low = None if None in lows else min(lows)  # type: ignore[type-var]
        high = None if None in highs else max(highs)  # type: ignore[type-var]
        if numbers and name not in ENVELOPE and (low, high) != (None, None):
            yield gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)


def snapshot_suite(features: FeatureSet, service: str = RANKER_SERVICE) -> Suite:
    """Return the suite of a training snapshot made with a feature service: ranges and closed sets, nulls allowed.

    A point-in-time join finds nothing for a new user, so no feature is required in every row.
    """
    checks: list[Expectation] = [
        gxe.ExpectColumnValuesToNotBeNull(column="user_id"),
        *(gxe.ExpectColumnValuesToNotBeNull(column=key) for key in item_of(features).keys),
        gxe.ExpectColumnValuesToNotBeNull(column="event_timestamp"),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=[0, 1]),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="label", min_value=2),
    ]
    for view in features.services[service]:
        for feature in view:
            if feature.dtype.is_scalar:
                checks += _range_checks(feature)
    return Suite(name=f"snapshot of {service}", columns=(), checks=tuple(checks))


CREATED_BEFORE_EVENT = "event_minus_created_seconds"
REFUSED_BY_STREAM = "refused_by_the_stream"


def checkable(table: pa.Table) -> pd.DataFrame:
    """Return a table as a frame that the checks read.

    An embedding column is replaced by `<name>__length` and `<name>__norm`, another list by `<name>__length`, and of numbers by
    `<name>__least` and `<name>__greatest` too; null where it is null. Added are the seconds by which an
    event's time lies after its arrival, which are positive only if the client's clock is fast.
    """
    frame: dict[str, object] = {}
    for name in table.schema.names:
        column = table[name]
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            if pa.types.is_float32(column.type.value_type):
                frame |= _embedding_columns(name, column)
            else:
                frame |= _list_columns(name, column)
        else:
            frame[name] = column.to_pandas()
    learned = next((name for name in ("created_timestamp", "arrived_at") if name in frame), None)
    result = pd.DataFrame(frame)
    if learned is not None and "event_timestamp" in frame:
        result[CREATED_BEFORE_EVENT] = (result["event_timestamp"] - result[learned]).dt.total_seconds()
    return result


def _embedding_columns(name: str, column: pa.ChunkedArray) -> dict[str, object]:
    lengths = np.full(len(column), np.nan)
    norms = np.full(len(column), np.nan)
    for row, value in enumerate(column.to_numpy(zero_copy_only=False)):
        if value is not None:
            lengths[row] = len(value)
            norms[row] = np.linalg.norm(np.asarray(value, dtype=np.float64))
    return {f"{name}__length": lengths, f"{name}__norm": norms}


def _list_columns(name: str, column: pa.ChunkedArray) -> dict[str, object]:
    listed = column.to_pylist()
    found: dict[str, object] = {f"{name}__length": [None if one is None else len(one) for one in listed]}
    if not pa.types.is_string(column.type.value_type):
        known = [[value for value in one or () if value is not None] for one in listed]
        found[f"{name}__least"] = [min(one, default=None) for one in known]
        found[f"{name}__greatest"] = [max(one, default=None) for one in known]
    return found


def _checkable_columns(view: View) -> list[str]:
    lists = {feature.name for feature in view if not feature.dtype.is_scalar}
    plain = [name for name in feature_columns(view).names if name not in lists]
    parts = (f"{feature.name}__{part}" for feature in view for part in _PARTS.get(feature.dtype, ()))
    return [*plain, *parts, CREATED_BEFORE_EVENT]


_PARTS = {
    DType.EMBEDDING: ("length", "norm"),
    DType.STRINGS: ("length",),
    DType.INT64S: ("length", "least", "greatest"),
    DType.FLOAT64S: ("length", "least", "greatest"),
}


def _feature_checks(feature: Feature) -> Iterator[Expectation]:
    if feature.dtype is DType.EMBEDDING:
        if feature.null_when is None:
            yield gxe.ExpectColumnValuesToNotBeNull(column=f"{feature.name}__length")
        yield gxe.ExpectColumnValuesToBeBetween(
            column=f"{feature.name}__length", min_value=EMBEDDING_LENGTH, max_value=EMBEDDING_LENGTH
        )
        yield gxe.ExpectColumnValuesToBeBetween(
            column=f"{feature.name}__norm", min_value=1 - NORM_TOLERANCE, max_value=1 + NORM_TOLERANCE
        )
        return
    if not feature.dtype.is_scalar:
        if feature.null_when is None:
            yield gxe.ExpectColumnValuesToNotBeNull(column=f"{feature.name}__length")
        for part, low, high in (("least", feature.minimum, None), ("greatest", None, feature.maximum)):
            if low is not None or high is not None:
                yield gxe.ExpectColumnValuesToBeBetween(column=f"{feature.name}__{part}", min_value=low, max_value=high)
        return
    if feature.null_when is None:
        yield gxe.ExpectColumnValuesToNotBeNull(column=feature.name)
    yield from _range_checks(feature)


def _range_checks(feature: Feature) -> Iterator[Expectation]:
    if feature.values is not None:
        yield gxe.ExpectColumnValuesToBeInSet(column=feature.name, value_set=list(feature.values))
    if feature.minimum is not None or feature.maximum is not None:
        yield gxe.ExpectColumnValuesToBeBetween(
            column=feature.name, min_value=feature.minimum, max_value=feature.maximum
        )
