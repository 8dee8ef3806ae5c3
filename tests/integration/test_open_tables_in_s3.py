"""Open tables of a lake in S3, and an erasure that reaches them before the files are gone."""

from datetime import UTC, datetime

import duckdb
import pytest

from ingestion.compact import compact
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake
from stillpoint.open_tables.catalogue import open_catalogue
from stillpoint.open_tables.run import publisher
from tests.support.known_users import OTHER, USER, Home
from tests.support.large_lake import made_events
from tests.support.wellness import EVENT_COLUMNS, FEATURES

DAY = datetime(2026, 3, 5, tzinfo=UTC)


def rows(catalogue, name):
    return sorted(map(str, catalogue.load_table(("stillpoint", name)).scan().to_arrow().to_pylist()))


def test_a_lake_in_s3_is_published_without_copying_a_row(settings, tmp_path):
    settings = settings.model_copy(update={"iceberg_catalogue": f"sqlite:///{tmp_path}/catalogue.db"})
    from stillpoint.lake.objects import open_objects

    lake = Lake(open_objects(settings.lake, settings.aws_client_arguments()), FEATURES, EVENT_COLUMNS)
    for number in range(2):
        file = lake.write("events", DAY.date(), f"s-{number}", made_events(number * 100, 30, 5, DAY))
        lake.commit(Commit(writer="s", sequence=number, at=DAY, files=(file,)))
    publish = publisher(settings, lake, lambda: datetime.now(UTC))
    assert publish is not None
    assert [one.added for one in publish() if one.table == "events"] == [2]
    catalogue = open_catalogue(settings)
    assert rows(catalogue, "events") == sorted(map(str, lake.read("events").to_pylist()))
    compact(lake, before=datetime(2026, 3, 6, tzinfo=UTC).date(), at=DAY)
    assert [(one.added, one.removed) for one in publish() if one.table == "events"] == [(1, 2)]
    assert rows(catalogue, "events") == sorted(
        map(str, Lake(lake.objects, FEATURES, EVENT_COLUMNS).read("events").to_pylist())
    )
    assert [key for key in lake.objects.list("iceberg/events/") if key.endswith(".parquet")] == []


@pytest.fixture
def home(tmp_path, redis_factory, unique):
    return Home(tmp_path, redis_factory(), unique)


def test_an_erasure_reaches_the_open_tables_and_leaves_none_that_names_a_deleted_file(home, tmp_path):
    settings = home.settings.model_copy(update={"iceberg_catalogue": f"sqlite:///{tmp_path}/catalogue.db"})
    home.processor._lease.release()
    publish = publisher(settings, home.lake, lambda: datetime.now(UTC))
    publish()
    catalogue = open_catalogue(settings)
    tables = ("events", "served", "users", "snapshot_s1", "features_search_embeddings")
    assert all(f"'{USER}'" in str(rows(catalogue, name)) for name in tables)
    deleted = type(home.lake.objects).delete

    def told(objects, key):
        if key.endswith(".parquet") and not key.startswith("mappings/"):
            named = [
                task.file.file_path
                for name in tables
                for task in catalogue.load_table(("stillpoint", name)).scan().plan_files()
            ]
            assert not any(path.endswith(f"/{key}") for path in named) or key.startswith("snapshots/"), key
        deleted(objects, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(home.lake.objects), "delete", told)
        receipt = home.erase(publish=publish)
    assert receipt.skipped == ()
    for name in tables:
        assert f"'{USER}'" not in str(rows(catalogue, name)), name
        assert f"'{OTHER}'" in str(rows(catalogue, name)), name
        files = [
            task.file.file_path.removeprefix("file://")
            for task in catalogue.load_table(("stillpoint", name)).scan().plan_files()
        ]
        with duckdb.connect() as database:
            found = database.execute("select distinct user_id from read_parquet(?)", [files]).fetchall()
        assert (OTHER,) in found
        assert (USER,) not in found
