"""The offline store reads exactly what the lake has committed, in a folder and on S3, and writes commits itself."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.repo_config import RepoConfig

from ingestion.compact import compact
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.errors import InvalidInput
from stillpoint.feast_definitions import define
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.tables import Lake, feature_columns
from tests.support.wellness import BIOMETRICS, FEATURES

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def biometrics(rows):
    """Rows are (user, event, created, steps)."""
    columns = {
        "user_id": [row[0] for row in rows],
        "event_timestamp": [row[1] for row in rows],
        "created_timestamp": [row[2] for row in rows],
        **{feature.name: [None] * len(rows) for feature in BIOMETRICS},
        "steps_sum_10m": [row[3] for row in rows],
    }
    schema = feature_columns(BIOMETRICS)
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})


def commit(lake, dataset, table, name, *, counts=True):
    file = lake.write(dataset, T0.date(), name, table)
    if counts:
        lake.commit(Commit(writer=name, sequence=0, at=T0, files=(file,)))


@pytest.fixture(params=["lake", "s3_lake"])
def any_lake(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def open_store(any_lake, tmp_path, request):
    def open_(mapping_version=3, **settings):
        s3 = {}
        if any_lake.root.startswith("s3://"):
            s3 = {
                "endpoint_url": request.getfixturevalue("aws").endpoint_url,
                "region": "us-east-1",
                "access_key_id": "test",
                "secret_access_key": "test",
            }
        store = FeatureStore(
            config=RepoConfig(
                project="lake_contract",
                provider="local",
                registry=str(tmp_path / "registry.db"),
                online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
                offline_store={
                    "type": "stillpoint.stores.offline.StillpointOfflineStore",
                    "lake_root": any_lake.root,
                    "mapping_version": mapping_version,
                    "s3": s3,
                    **settings,
                },
                entity_key_serialization_version=3,
            )
        )
        store.apply(define(FEATURES, lake_root=any_lake.root, mapping_version=3).all())
        return store

    return open_


def ask(store, users, time, features=("biometrics:steps_sum_10m",)):
    frame = pd.DataFrame({"user_id": users, "event_timestamp": pd.to_datetime([time] * len(users), utc=True)})
    return store.get_historical_features(entity_df=frame, features=list(features)).to_arrow()


def test_only_committed_files_count_and_replays_do_not_fan_out(any_lake, open_store):
    dataset = feature_dataset(BIOMETRICS)
    rows = biometrics([("u1", T0, T0, 100)])
    commit(any_lake, dataset, rows, "first")
    commit(any_lake, dataset, rows, "replayed")
    commit(any_lake, dataset, biometrics([("u1", T0 + MINUTE, T0, 999)]), "lost", counts=False)
    found = ask(open_store(chunk_rows=1), ["u1", "u1", "u2"], T0 + 2 * MINUTE)
    assert found["steps_sum_10m"].to_pylist() == [100, 100, None]


def test_an_empty_lake_gives_nulls_of_the_declared_types(open_store):
    found = ask(open_store(), ["u1"], T0)
    assert found["steps_sum_10m"].to_pylist() == [None]
    assert found.schema.field("steps_sum_10m").type == pa.int64()


def test_a_push_becomes_a_commit_that_is_read_at_once(any_lake, open_store):
    store = open_store()
    store.push("biometrics_push", biometrics([("u7", T0, T0, 7)]).to_pandas(), to=PushMode.OFFLINE)
    assert ask(store, ["u7"], T0)["steps_sum_10m"].to_pylist() == [7]
    writers = [found.writer for found in Lake(any_lake.objects, FEATURES).commits()]
    assert len(writers) == 1
    assert writers[0].startswith("push-")


def test_another_release_mapping_is_refused(any_lake, open_store):
    schema = feature_columns(USER_SEQUENCE)
    row = pa.table([["u1"], [T0], [T0], [5], [3]], schema=schema)
    commit(any_lake, feature_dataset(USER_SEQUENCE, 3), row, "mapping")
    assert ask(open_store(), ["u1"], T0, ["user_sequence:sequence_id"])["sequence_id"].to_pylist() == [5]
    for bound in (4, None):
        with pytest.raises(InvalidInput, match=f"is id mapping 3, and this store is bound to mapping_version {bound}"):
            ask(open_store(mapping_version=bound), ["u1"], T0, ["user_sequence:sequence_id"])


def test_plain_paths_on_s3_are_files_folders_and_globs(aws, s3_lake):
    from stillpoint.stores.history.sources import S3Access, open_path

    filesystem, root = s3_lake.objects.arrow()
    for day in (1, 2):
        pq.write_table(pa.table({"n": [day]}), f"{root}/plain/day={day}/part.parquet", filesystem=filesystem)
    access = S3Access(endpoint_url=aws.endpoint_url, region="us-east-1", access_key_id="test", secret_access_key="test")
    for path, expected in (("plain", [1, 2]), ("plain/day=2/part.parquet", [2]), ("plain/day=1/*", [1])):
        source = open_path(f"{s3_lake.root}/{path}", "plain", access)
        assert pa.concat_arrays([c.read(["n"])["n"].to_arrow() for c in source.chunks(1)]).to_pylist() == expected


def test_rows_that_join_a_compacted_day_later_are_read_too(any_lake, open_store):
    dataset = feature_dataset(BIOMETRICS)
    commit(any_lake, dataset, biometrics([("u1", T0, T0, 5)]), "first")
    compact(any_lake, before=T0.date() + timedelta(days=1), at=T0)
    late = [(f"u{n}", T0 + MINUTE, T0 + MINUTE, n) for n in range(2, 6)]
    commit(any_lake, dataset, biometrics(late), "late")
    compact(any_lake, before=T0.date() + timedelta(days=1), at=T0)
    spine = pd.DataFrame({"user_id": [f"u{n}" for n in range(1, 6)], "event_timestamp": [T0 + 2 * MINUTE] * 5})
    found = open_store().get_historical_features(spine, ["biometrics:steps_sum_10m"]).to_df()
    assert found["steps_sum_10m"].tolist() == [5, 2, 3, 4, 5]
