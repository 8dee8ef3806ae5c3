"""A relative path means one place, in the folder of `feature_store.yaml`, whatever folder a process works in."""

import pyarrow.parquet as pq
import pytest
from feast import FeatureService, FileSource
from feast.data_source import PushMode, PushSource
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage

from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from tests.support.plays import ROWS, USER, ask, at, plays_view, source_table, values
from tests.support.wellness import FEATURES


@pytest.fixture
def store(tmp_path, open_store, monkeypatch):
    """A store whose sources are relative, in a process that works elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pq.write_table(source_table(ROWS), tmp_path / "plays.parquet")
    opened = open_store(lake_root="lake")
    opened.apply([USER, plays_view("plays.parquet")])
    yield opened
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("path", ["saved.parquet", "saved/one.parquet", "saved", "file://saved"])
def test_a_saved_dataset_is_written_where_it_is_read(store, tmp_path, path):
    job = ask(store, [("u1", at(0.5)), ("u2", at(1))])
    store.create_saved_dataset(from_=job, name="kept", storage=SavedDatasetFileStorage(path=path))
    assert store.get_saved_dataset("kept").to_df()["plays"].tolist() == [10, 20]
    assert (tmp_path / path.removeprefix("file://")).exists()


def test_logged_features_are_written_where_they_are_read(store, tmp_path):
    view = store.get_feature_view("plays_view")
    service = FeatureService(
        name="service", features=[view], logging_config=LoggingConfig(destination=FileLoggingDestination(path="logs"))
    )
    store.apply([service])
    log = source_table(ROWS[:2]).rename_columns(["user_id", "__log_timestamp", "__request_id", "plays_view__plays"])
    store._get_provider().write_feature_service_logs(service, log, store.config, store.registry)
    source = service.logging_config.destination.to_data_source()
    found = store._get_provider().offline_store.pull_all_from_table_or_query(
        store.config, source, [], ["plays_view__plays"], "__log_timestamp", None, at(-1), at(9)
    )
    assert values(found, "plays_view__plays") == [10, 11]
    assert list((tmp_path / "logs").glob("*.parquet"))


def test_a_relative_lake_is_read_and_written_where_its_sources_lie(store, tmp_path):
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    view = plays_view("lake/free/plays", name="in_lake")
    view.stream_source = PushSource(name="push", batch_source=view.batch_source)
    assert isinstance(view.batch_source, FileSource)
    store.apply([USER, view])
    store._get_provider().offline_store.offline_write_batch(store.config, view, source_table(ROWS), None)
    assert [file.rows for file in lake.files("free/plays")]
    store.push("push", source_table([("u9", at(0), at(0), 90)]).to_pandas(), to=PushMode.OFFLINE)
    found = store.get_historical_features(
        entity_df=source_table([("u9", at(1), at(1), 0)]).select(["user_id", "event_timestamp"]),
        features=["in_lake:plays"],
    )
    assert values(found) == [90]
