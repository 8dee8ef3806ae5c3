"""Each planted fault is found, and a clean dataset passes."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stillpoint.app.records import View
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.lake.tables import feature_columns
from tests.support.wellness import APP, EVENT_COLUMNS, VIEWS
from validation.expectations import validate
from validation.outcome import ValidationResult
from validation.suites import event_suite, view_suite

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = 40


def clean_column(view: View, name: str) -> list[Any]:
    feature = next((feature for feature in view if feature.name == name), None)
    if feature is None:
        moments = [NOON + timedelta(seconds=row) for row in range(ROWS)]
        return [f"k{row}" for row in range(ROWS)] if name.endswith("_id") else moments
    if feature.dtype is DType.EMBEDDING:
        unit = np.zeros(EMBEDDING_LENGTH, dtype=np.float32)
        unit[3] = 1
        return [unit] * ROWS
    value: Any = {
        DType.STRING: (feature.values or ("x",))[0],
        DType.BOOL: True,
        DType.INT64: int(feature.minimum or 0),
        DType.FLOAT64: float(feature.minimum or 0),
    }[feature.dtype]
    return [value] * ROWS


def clean(view: View) -> dict[str, list[Any]]:
    return {name: clean_column(view, name) for name in feature_columns(view).names}


def check(view: View, columns: dict[str, list[Any]]) -> ValidationResult:
    table = pa.table(columns).cast(pa.schema([field.with_nullable(True) for field in feature_columns(view)]))
    return validate(view_suite(view), [table.slice(0, 15), table.slice(15)], at=NOON)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_clean_rows_of_every_declared_view_pass(view: View) -> None:
    result = check(view, clean(view))
    assert result.passed, [finding.sentence() for finding in result.failures()]
    assert result.rows == ROWS


def faults(view: View) -> list[tuple[str, str, Any]]:
    """One fault per rule of the view: the checked column, the column to spoil, and the value."""
    planted: list[tuple[str, str, Any]] = [(name, name, None) for name in (view.entity.join_key, "event_timestamp")]
    for feature in view:
        name = feature.name
        if feature.dtype is DType.EMBEDDING:
            planted.append((f"{name}__length", name, np.ones(4, np.float32) / 2))
            planted.append((f"{name}__norm", name, np.ones(EMBEDDING_LENGTH, np.float32)))
            continue
        if feature.null_when is None:
            planted.append((name, name, None))
        if feature.minimum is not None:
            planted.append((name, name, type(clean_column(view, name)[0])(feature.minimum - 1)))
        if feature.maximum is not None:
            planted.append((name, name, feature.maximum + 1))
        if feature.values is not None:
            planted.append((name, name, "unheard of"))
    return planted


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_each_planted_fault_is_found_in_its_column(view: View) -> None:
    columns = clean(view)
    expected: Counter[str | None] = Counter()
    for row, (checked, spoiled, value) in enumerate(faults(view)):
        columns[spoiled][row] = value
        expected[checked] += 1
    found: Counter[str | None] = Counter()
    for finding in check(view, columns).failures():
        found[finding.column] += finding.unexpected
    assert found == expected


def test_two_different_rows_of_one_key_are_found_across_batches() -> None:
    view = VIEWS[0]
    columns = clean(view)
    for name in ("user_id", "event_timestamp", "created_timestamp"):
        columns[name][-1] = columns[name][0]
    assert check(view, columns).passed, "an equal copy is a replay, and allowed"
    columns["session_play_count"][-1] = 9
    (finding,) = check(view, columns).failures()
    assert finding.check == "unambiguous_key"


def test_an_event_that_is_minutes_ahead_of_its_arrival_is_found() -> None:
    view = VIEWS[0]
    columns = clean(view)
    columns["event_timestamp"][5] = columns["created_timestamp"][5] + timedelta(seconds=61)
    (finding,) = check(view, columns).failures()
    assert finding.sentence().startswith("event_minus_created_seconds: expected at most 60; 1 of 40 rows break it")


def test_zero_rows_are_not_a_pass() -> None:
    result = validate(view_suite(VIEWS[0]), [], at=NOON)
    assert not result.passed
    assert result.failures()[0].sentence() == "expected at least one row; found none"


def test_an_unknown_verdict_in_the_lake_is_found() -> None:
    row: dict[str, list[Any]] = {field.name: [None] for field in EVENT_COLUMNS}
    row |= {
        "event_id": ["0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b"],
        "user_id": ["u"],
        "type": ["login"],
        "platform": ["ios"],
        "shard": ["0"],
        "sequence": ["1"],
    }
    row |= {"event_timestamp": [NOON], "arrived_at": [NOON], "verdict": ["on_time"]}
    table = pa.table(row).cast(EVENT_COLUMNS)
    assert validate(event_suite(APP.events), [table], at=NOON).passed
    wrong = table.set_column(table.schema.get_field_index("verdict"), "verdict", pa.array(["maybe"]))
    (finding,) = validate(event_suite(APP.events), [wrong], at=NOON).failures()
    assert finding.column == "verdict"
