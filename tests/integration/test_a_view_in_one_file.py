"""A view of twelve lines in one file of the app is everywhere: stream, lake, Feast, expectations, reads, training."""

from datetime import timedelta

import feast
import polars as pl
import pytest
from feast import RepoConfig

from inference.ranking.user_features import UserReading
from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.app.load import load_app
from stillpoint.clock import to_micros
from stillpoint.feast_definitions import define
from stillpoint.lake.datasets import feature_dataset
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from tests.support.batch_world import Parts, World
from tests.support.wellness import with_more
from training.joined_features import AS_OF, PointInTime, feature_rows
from training.ranker import ModelColumns
from validation.expectations import validate
from validation.suites import snapshot_suite, view_suite

ASKING = '''
from stillpoint.app import StreamView, count, hours, last, minutes, user

from .events import Search


class Asking(StreamView):
    """How much the user searched lately, and for what."""

    entity, ttl = user, hours(2)
    asked = count(Search, over=[minutes(10), hours(1)], unit="searches")
    last_query = last(Search.query, over=hours(1))
'''
NAMES = ("asked_10m", "asked_1h", "last_query")


@pytest.fixture
def app(tmp_path):
    return with_more(tmp_path, asking=ASKING)


def test_it_is_declared_once_and_found_everywhere(app, tmp_path, redis_server, unique):
    assert len(ASKING.strip().splitlines()) <= 12
    features = app.features
    view = features.view("asking")
    world = World(tmp_path, redis_server, unique, app=app.where)
    world.processor().process(Parts(world.searches(range(1, 4)), 2), 0)

    # The stream wrote its rows online and into the lake, and they meet what is declared.
    project = f"p_{unique}"
    users = UserReading(features)
    at_us = to_micros(world.now + timedelta(seconds=5))
    read = OnlineReader(redis_server.client(), ReadPlan.of_features(project, features)).read(
        users.names, {"user_id": ["u1"]}, now_us=at_us
    )
    assert [read.values(name)[0] for name in NAMES] == [3, 3, "deep sleep"]
    assert {"asked_10m", "last_query", "asking_age_seconds"} <= users.decode_one(read).columns.keys()
    rows = world.lake.read(feature_dataset(view))
    assert rows["asked_1h"].to_pylist() == [1, 2, 3]
    assert validate(view_suite(view), [rows], at=world.now).passed

    # Feast knows it, and its registry compiles to the plan of the declarations.
    defined = define(features, lake_root=world.lake.root, mapping_version=1)
    assert "asking_push" in defined.sources
    assert defined.on_demand is not None
    store = feast.FeatureStore(
        config=RepoConfig(
            project=project,
            provider="local",
            registry={"path": str(tmp_path / "registry.pb")},
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            offline_store={
                "type": "stillpoint.stores.offline.StillpointOfflineStore",
                "lake_root": world.lake.root,
                "created_cutoff": True,
            },
            entity_key_serialization_version=3,
        )
    )
    store.apply(defined.all())
    plan = compile_plan((tmp_path / "registry.pb").read_bytes(), project)
    assert plan.view("asking") == ReadPlan.of_features(project, features).view("asking")

    # Training joins it point in time; it is a column of the model and of the snapshot's expectations.
    spine = pl.DataFrame(
        {
            "user_id": ["u1"],
            "content_id": ["c1"],
            "recommendation_id": ["r1"],
            "event_timestamp": [world.now + timedelta(seconds=5)],
            "kind": ["today"],
            "position": [0],
            "label": [1],
        }
    ).with_columns(pl.col("event_timestamp").dt.cast_time_unit("us").alias(AS_OF))
    joined = feature_rows(features, spine, PointInTime(store, features).join(spine))
    assert [joined[name].to_pylist() for name in NAMES] == [[3.0], [3.0], ["deep sleep"]]
    assert joined["asking_age"].to_pylist() == [2.0]
    columns = ModelColumns.of(features)
    assert {*NAMES, "asking_age"} <= set(columns.order)
    assert {*NAMES, "asking_age"} <= columns.real_time
    assert "asked_1h" in {getattr(check, "column", None) for check in snapshot_suite(features).checks}
    assert "asking" in {part.view for part in plan.select(RANKER_SERVICE)}


def test_the_columns_that_were_there_before_keep_their_order(app):
    before = ModelColumns.of(load_app("feature_repo").features).order
    after = ModelColumns.of(app.features).order
    assert [name for name in after if name in before] == list(before)
