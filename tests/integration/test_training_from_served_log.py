"""A model can be trained on what was served, and the distance from the join is known; Redis, lake, log and Feast are real."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from inference.ranking.user_features import UserReading
from stillpoint.app.records import Origin
from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date, feature_dataset, newest_rows
from stillpoint.local.redis_server import RedisServer
from stillpoint.served_rows import SERVED_COLUMNS
from stillpoint.snapshot_definition import FeaturesFrom
from stillpoint.snapshots import FeatureDifference, Snapshot
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.training_world import ENCODER, few_users
from tests.support.wellness import CONTENT_PROFILES, EVENT_COLUMNS, FEATURES, VIEWS
from training.snapshot import make_snapshot

SERVED_AT = datetime(2026, 10, 7, 20, 30, tzinfo=UTC)
CUTOFF = datetime(2026, 10, 8, tzinfo=UTC)
ITEMS = 12


class Served:
    """Three simulated days, a Redis that holds what was known at `SERVED_AT`, and a list served to everybody then."""

    def __init__(self, folder: Path, redis: RedisServer, project: str) -> None:
        self.lake, self.store = few_users(folder)
        client = connect(redis.connection_string)
        for view in VIEWS:
            if view.origin is not Origin.MAPPING and view.entity.name == "user":
                rows = self.lake.read(feature_dataset(view), where=pc.field("created_timestamp") <= SERVED_AT)
                OnlineWriter(client, project).write(
                    ViewLayout.of(view), newest_rows(rows.filter(pc.field("event_timestamp") <= SERVED_AT), "user_id")
                )
        self.users = sorted(set(self.lake.read("users")["user_id"].to_pylist()))
        reader = OnlineReader(client, ReadPlan.of_features(project, FEATURES))
        users = UserReading(FEATURES)
        columns = reader.read(users.names, {"user_id": self.users}, now_us=to_micros(SERVED_AT))
        self.views = {one.user_id: [dict(view) for view in one.views] for one in users.decode(columns)}
        self.show()

    def show(self) -> None:
        """Write that everybody was shown a list a minute later, and that every third started its first item."""
        contents = sorted(set(self.lake.read(feature_dataset(CONTENT_PROFILES))["content_id"].to_pylist()))
        events = []
        for number, user in enumerate(self.users):
            items = [contents[(number + place) % len(contents)] for place in range(ITEMS)]
            shown = self._event(user, "impression", 60) | {"kind": "today", "items": items}
            events.append(shown | {"recommendation_id": f"served-{user}"})
            if number % 3 == 0:
                started = {"content_id": items[0], "play_id": f"play-{user}"}
                events.append(self._event(user, "content_start", 90) | started)
        self._commit("events", 0, pa.Table.from_pylist(events, schema=EVENT_COLUMNS))

    def log(self, number: int = 1) -> None:
        """Write the served log as a serving process does."""
        empty = {"items": [], "candidates": [], "scores": [], "trigger": None}
        rest = {"release": "r0001", "generation": 1, "arm": "a", "kind": "today", "source": "model"}
        rows = [
            {**empty, **rest, "request_id": user, "recommendation_id": f"served-{user}", "user_id": user}
            | {"served_at": SERVED_AT, "views": views}
            for user, views in self.views.items()
        ]
        self._commit("served", number, pa.Table.from_pylist(rows, schema=SERVED_COLUMNS))

    def take(self, features_from: FeaturesFrom = FeaturesFrom.SERVED_LOG) -> Snapshot:
        return make_snapshot(
            self.lake, self.store, cutoff=CUTOFF, encoder_sha256=ENCODER.sha256, features_from=features_from
        )

    def _event(self, user: str, type: str, seconds: int) -> dict[str, Any]:
        at = SERVED_AT + timedelta(seconds=seconds)
        common = {"event_timestamp": at, "arrived_at": at, "platform": "ios", "verdict": "on_time", "shard": "s"}
        return {"event_id": f"{type}-{user}", "user_id": user, "type": type, "sequence": user, **common}

    def _commit(self, dataset: str, number: int, table: pa.Table) -> None:
        column = "served_at" if dataset == "served" else "event_timestamp"
        files = tuple(self.lake.write(dataset, day, f"test-{number}", part) for day, part in by_date(table, column))
        self.lake.commit(Commit(writer=f"test-{dataset}", sequence=number, at=CUTOFF, files=files))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Served:
    return Served(tmp_path_factory.mktemp("served"), redis_server, "stillpoint_served_log")


def differing(snapshot: Snapshot) -> dict[str, FeatureDifference]:
    assert snapshot.manifest.differences is not None
    return {one.feature: one for one in snapshot.manifest.differences if one.equal < one.rows}


def test_without_a_log_there_is_nothing_to_train_on(served: Served) -> None:
    with pytest.raises(InvalidInput, match="0 labelled rows of lists in the served log"):
        served.take()


def test_features_as_they_were_served_equal_the_join_at_the_moment_of_serving(served: Served) -> None:
    served.log()
    taken = served.take()
    manifest = taken.manifest
    assert (manifest.rows, manifest.positives) == (ITEMS * len(served.users), len(served.users) / 3)
    assert manifest.features_from == "served-log"
    assert manifest.as_of_first == manifest.as_of_last == SERVED_AT
    assert differing(taken) == {}
    assert taken.rows["event_timestamp"].unique().to_pylist() == [SERVED_AT + timedelta(seconds=60)]
    assert taken.rows["session_bounce_rates_age"].null_count < manifest.rows
    assert served.take().manifest == manifest
    joined = served.take(FeaturesFrom.JOIN)
    assert joined.manifest.id != manifest.id
    assert joined.manifest.differences is None
    assert joined.rows.schema.equals(taken.rows.schema)


def test_a_value_that_was_served_otherwise_is_what_is_trained_on_and_is_told(served: Served) -> None:
    user = next(one for one in served.users if _value(served, one, "user_profiles", "tenure_days") is not None)
    tenure = _value(served, user, "user_profiles", "tenure_days")
    _change(served, user, "user_profiles", tenure_days=tenure + 40.0, gender=None)
    served.log(2)  # a copy of the same lists: the one that is there already counts
    assert differing(served.take()) == {}
    served.lake.commit(
        Commit(
            writer="test-again",
            sequence=0,
            at=CUTOFF,
            supersedes=tuple(one.path for one in served.lake.files("served") if one.path.endswith("test-1.parquet")),
        )
    )
    taken = served.take()
    told = differing(taken)
    assert told["tenure_days"].largest_difference == 40.0
    assert (told["tenure_days"].rows - told["tenure_days"].equal, told["gender"].only_joined) == (ITEMS, ITEMS)
    own = taken.rows.filter(pc.equal(taken.rows["user_id"], user))
    np.testing.assert_array_equal(own["tenure_days"].to_numpy(), tenure + 40.0)
    assert own["gender"].null_count == ITEMS


def _value(served: Served, user: str, view: str, feature: str) -> Any:
    return next(json.loads(one["values"])[feature] for one in served.views[user] if one["view"] == view)


def _change(served: Served, user: str, view: str, **values: Any) -> None:
    row = next(one for one in served.views[user] if one["view"] == view)
    row["values"] = json.dumps(json.loads(row["values"]) | values)
