"""A program that runs a backfill and a join on two Spark workers of their own processes, and says what came out.

    two_nodes.py FOLDER

Its executors run a Python that knows third-party packages only. It prints one line of JSON.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Int64, String
from large_lake import APP, EVENT_COLUMNS, FEATURES, made_events

from ingestion.backfill import backfill
from ingestion.spark import spark_session
from stillpoint.app.load import load_app
from stillpoint.errors import StackUnavailable
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import ALL_DATES, by_date, feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings
from stillpoint.spark_code import refuse_executors_without_app

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def kept_events(folder: Path) -> Lake:
    lake = Lake(LocalObjects(folder), FEATURES)
    table = made_events(0, 200, 8, NOON.replace(hour=0))
    kinds = ["search" if kind == "navigation" else kind for kind in table["type"].to_pylist()]
    queries = ["deep sleep" if kind == "search" else None for kind in kinds]
    for name, values in (("type", kinds), ("query", queries)):
        place = EVENT_COLUMNS.get_field_index(name)
        table = table.set_column(place, EVENT_COLUMNS.field(name), pa.array(values, pa.string()))
    files = tuple(lake.write("events", day, "s", part) for day, part in by_date(table))
    lake.commit(Commit(writer="s", sequence=0, at=NOON, files=files))
    return lake


def rows_of(lake: Lake) -> list[str]:
    return [
        row for view in APP.features.streamed for row in sorted(map(str, lake.read(feature_dataset(view)).to_pylist()))
    ]


def joined(folder: Path, parts: int | None) -> list[dict[str, object]]:
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="taste", entities=[user], ttl=timedelta(hours=6), schema=[Field(name="user_id", dtype=String), Field(name="plays", dtype=Int64)],
        source=FileSource(path=str(folder / "taste.parquet"), timestamp_field="event_timestamp"),
    )  # fmt: skip
    offline = {"type": "stillpoint.stores.offline.StillpointOfflineStore", **({"spark_parts": parts} if parts else {})}
    store = FeatureStore(config=RepoConfig(project="two", provider="local", registry=str(folder / f"{parts}.pb"), offline_store=offline, online_store=None, entity_key_serialization_version=3))  # fmt: skip
    store.apply([user, view])
    spine = pd.DataFrame({"user_id": [f"u{n % 9}" for n in range(60)], "event_timestamp": [NOON - timedelta(minutes=n) for n in range(60)]})  # fmt: skip
    found = store.get_historical_features(entity_df=spine, features=["taste:plays"]).to_arrow()
    rows: list[dict[str, object]] = found.to_pylist()
    return rows


def main() -> None:
    folder = Path(sys.argv[1])
    times = pa.array([NOON - timedelta(minutes=7 * n) for n in range(80)], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"user_id": [f"u{n % 7}" for n in range(80)], "event_timestamp": times, "plays": list(range(80))}), folder / "taste.parquet")  # fmt: skip
    settings = Settings.load()
    app = load_app(settings.app)
    session = spark_session(settings, "two-nodes", master="local-cluster[2,1,1024]")

    def where(_: int) -> tuple[int, str]:
        import importlib.util
        import os

        found = importlib.util.find_spec("stillpoint")
        return os.getppid(), "" if found is None else str(found.origin)

    places = session.sparkContext.parallelize(range(8), 8).map(where).collect()
    here, there = kept_events(folder / "here"), kept_events(folder / "there")
    backfill(here, ALL_DATES, at=NOON, app=app)
    backfill(there, ALL_DATES, at=NOON, app=app, spark=session)
    try:
        refuse_executors_without_app(session, "nowhere/app")
        told = ""
    except StackUnavailable as error:
        told = str(error)
    result = {
        "processes": len({process for process, _ in places}),
        "origins": sorted({origin for _, origin in places}),
        "backfill_rows": len(rows_of(there)),
        "backfill_equal": rows_of(here) == rows_of(there),
        "join_rows": len(joined(folder, 2)),
        "join_equal": joined(folder, 2) == joined(folder, None),
        "without_app": told,
    }
    session.stop()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
