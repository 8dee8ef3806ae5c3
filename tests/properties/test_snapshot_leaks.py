"""A snapshot's bytes stay whatever happens, or arrives, after its cutoff, through the lake and Feast, all real."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import feast
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.app.records import Origin
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date, feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.snapshots import Snapshot
from tests.support.training_world import ENCODER, few_users
from tests.support.wellness import VIEWS
from training.snapshot import make_snapshot

CUTOFF = datetime(2026, 10, 8, tzinfo=UTC)
STORED = [feature_dataset(view) for view in VIEWS if view.origin is not Origin.MAPPING]


@dataclass
class Small:
    """A lake of three days of few users, whose store knows it, and what was taken from it before anything was planted."""

    lake: Lake
    store: feast.FeatureStore
    before: Snapshot
    bytes: bytes
    planted: int = 0

    def plant(self, dataset: str, rows: pa.Table) -> None:
        """Commit rows beside those that are there."""
        self.planted += 1
        parts = [self.lake.write(dataset, day, f"planted-{self.planted}", part) for day, part in by_date(rows)]
        self.lake.commit(Commit(writer="planted", sequence=self.planted, at=CUTOFF, files=tuple(parts)))

    def take(self) -> Snapshot:
        return make_snapshot(self.lake, self.store, cutoff=CUTOFF, encoder_sha256=ENCODER.sha256)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    lake, store = few_users(folder)
    before = make_snapshot(lake, store, cutoff=CUTOFF, encoder_sha256=ENCODER.sha256)
    return Small(lake, store, before, stored(lake, before))


def stored(lake: Lake, snapshot: Snapshot) -> bytes:
    return lake.objects.get(f"snapshots/{snapshot.manifest.id}/rows.parquet")


def moved(rows: pa.Table, happened: timedelta | None, learned_column: str, learned: timedelta) -> pa.Table:
    """Return rows that were learned of after the cutoff, and happened when they did or after it, with other numbers."""
    columns = {}
    for field in rows.schema:
        values = rows[field.name]
        if field.name == learned_column:
            values = pa.array([CUTOFF + learned] * len(rows), field.type)
        elif field.name == "event_timestamp" and happened is not None:
            values = pa.array([CUTOFF + happened] * len(rows), field.type)
        elif field.name == "event_id":
            values = pc.binary_join_element_wise(values, "planted", "-")
        elif pa.types.is_floating(field.type) or (pa.types.is_integer(field.type) and field.name != "sequence_id"):
            values = pc.add(values, pa.scalar(1_000, field.type))
        columns[field.name] = values
    return pa.table(columns, schema=rows.schema)


LATER = st.integers(1, 72 * 60).map(lambda one: timedelta(minutes=one))
PLANTED = st.tuples(
    st.sampled_from(["events", "events", *STORED]), st.integers(0, 9), st.one_of(st.none(), LATER), LATER
)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PLANTED, min_size=4, max_size=8))
def test_nothing_that_happens_or_arrives_after_the_cutoff_changes_a_snapshot(small: Small, planted: list) -> None:
    for dataset, tenth, happened, learned in planted:
        rows = small.lake.read(dataset)
        chosen = rows.take(list(range(tenth, rows.num_rows, 10)))
        column = "arrived_at" if dataset == "events" else "created_timestamp"
        small.plant(dataset, moved(chosen, happened, column, learned))
    again = small.take()
    assert again.manifest.id == small.before.manifest.id
    assert stored(small.lake, again) == small.bytes


def test_what_arrives_before_the_cutoff_does_change_a_snapshot(small: Small) -> None:
    """So that the test above could fail: the same rows, learned of in time, make another snapshot."""
    rows = small.lake.read("features/biometrics")
    early = moved(rows.slice(0, 2_000), None, "created_timestamp", timedelta(days=-3))
    small.plant("features/biometrics", early)
    assert small.take().manifest.id != small.before.manifest.id
