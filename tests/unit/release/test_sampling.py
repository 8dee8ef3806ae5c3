"""The gate's sample of a view is right, the same while others come and go, and small."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from release.checks import sampling
from release.checks.sampling import MARGIN, expected_rows
from release.gate import Thresholds
from stillpoint.app.entities import Entity
from stillpoint.app.feature_set import USER_SEQUENCE, feature_set
from stillpoint.app.records import Feature, Origin, View
from stillpoint.clock import to_micros
from stillpoint.dtypes import DType
from stillpoint.features.columns import rows_table
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from tests.support.wellness import FEATURES, SESSION_BOUNCE_RATES

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path):
    return Lake(LocalObjects(tmp_path), FEATURES)


def subject(lake, sample=500):
    release = SimpleNamespace(mapping_version=1)
    return SimpleNamespace(
        candidate=SimpleNamespace(release=release), lake=lake, thresholds=Thresholds(sample=sample), now=NOW, seed=7
    )


def sequences(lake, *numbers, at=NOW, sequence=0):
    rows = {
        "user_id": [f"u{number}" for number in numbers],
        "event_timestamp": [at] * len(numbers),
        "created_timestamp": [at] * len(numbers),
        "sequence_id": list(numbers),
        "mapping_version": [1] * len(numbers),
    }
    columns = feature_columns(USER_SEQUENCE)
    table = pa.table(rows).select(columns.names).cast(columns)
    keep(lake, feature_dataset(USER_SEQUENCE, 1), at, table, sequence)


def keep(lake, dataset, at, table, sequence):
    file = lake.write(dataset, at.date(), f"test-{sequence}", table)
    assert lake.commit(Commit(writer="test", sequence=sequence, at=at, files=(file,)))


def test_all_entities_are_looked_at_where_there_are_few(lake):
    sequences(lake, *range(40))
    assert sorted(expected_rows(subject(lake), USER_SEQUENCE).frame["sequence_id"]) == list(range(40))


def test_a_sample_hardly_changes_when_others_come_and_is_the_same_however_rows_are_split(lake, monkeypatch):
    sequences(lake, *range(1_000))
    first = set(expected_rows(subject(lake, 50), USER_SEQUENCE).frame["user_id"])
    assert len(first) == 50
    monkeypatch.setattr(sampling, "BATCH_ROWS", 1)
    for number in range(10):
        sequences(lake, 1_000 + number, sequence=1 + number)
    again = set(expected_rows(subject(lake, 50), USER_SEQUENCE).frame["user_id"])
    assert len(again) == 50
    assert again - first <= {f"u{1_000 + number}" for number in range(10)}
    assert set(expected_rows(subject(lake, 50), USER_SEQUENCE, first).frame["user_id"]) == first


def test_the_newest_row_is_expected_and_all_moments_are_known(lake):
    sequences(lake, 3, at=NOW - timedelta(hours=2))
    sequences(lake, 3, at=NOW - timedelta(hours=1), sequence=1)
    found = expected_rows(subject(lake), USER_SEQUENCE)
    assert found.frame["event_timestamp"].to_list() == [NOW - timedelta(hours=1)]
    assert len(found.moments) == 2


@pytest.mark.parametrize(("inside", "count"), [(MARGIN, 1), (MARGIN - timedelta(microseconds=1), 0)])
def test_rows_that_may_be_gone_when_they_are_asked_for_are_not_expected(lake, inside, count):
    view = SESSION_BOUNCE_RATES
    at = NOW - view.ttl + inside
    columns = feature_columns(view)
    row = {name: [None] for name in columns.names} | {"user_id": ["u1"]}
    row |= {"event_timestamp": [at], "created_timestamp": [at]}
    table = pa.table({name: pa.array(row[name], columns.field(name).type) for name in columns.names})
    keep(lake, feature_dataset(view), at, table, 0)
    assert len(expected_rows(subject(lake), view)) == count


def test_a_view_without_rows_expects_nothing(lake):
    assert len(expected_rows(subject(lake), USER_SEQUENCE)) == 0


def test_entities_of_two_keys_are_sampled_and_asked_for_by_both(lake):
    pair = View(
        name="interest",
        entity=Entity("user_category", "user_id", "category"),
        origin=Origin.STREAMED,
        ttl=None,
        features=(Feature(name="seen", dtype=DType.INT64, unit="views", description=""),),
        description="",
    )
    of_pairs = Lake(lake.objects, feature_set([pair]))
    rows = [("u1", "a", 1), ("u1", "b", 2), ("u2", "a", 3), ("u1", "a", 4)]
    table = rows_table(pair, [(user, group, to_micros(NOW) + seen, to_micros(NOW), seen) for user, group, seen in rows])
    keep(of_pairs, feature_dataset(pair), NOW, table, 0)
    found = expected_rows(subject(of_pairs), pair)
    asked = found.asked()
    newest = dict(zip(zip(asked["user_id"], asked["category"], strict=True), found.frame["seen"], strict=True))
    assert newest == {("u1", "a"): 4, ("u1", "b"): 2, ("u2", "a"): 3}
    some = set(found.frame.filter(found.frame["seen"] == 2)[found.key])
    assert expected_rows(subject(of_pairs), pair, some).frame["seen"].to_list() == [2]
