"""A small view of plays per user, and how tests ask the offline store for it."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Int64, String

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(hours):
    return T0 + hours * HOUR


def source_table(rows, *, unit="us", zone="UTC", created=True):
    kind = pa.timestamp(unit, tz=zone)
    columns = {
        "user_id": pa.array([row[0] for row in rows], pa.string()),
        "event_timestamp": pa.array([row[1] for row in rows], kind),
    }
    if created:
        columns["created_timestamp"] = pa.array([row[2] for row in rows], kind)
    columns["plays"] = pa.array([row[3] for row in rows], pa.int64())
    return pa.table(columns)


USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def plays_view(path, *, name="plays_view", ttl=timedelta(hours=2), created="created_timestamp", **source):
    return FeatureView(
        name=name,
        entities=[USER],
        ttl=ttl,
        schema=[Field(name="user_id", dtype=String), Field(name="plays", dtype=Int64)],
        source=FileSource(
            name=f"{name}_source",
            path=str(path),
            timestamp_field="event_timestamp",
            created_timestamp_column=created,
            **source,
        ),
    )


def spine(rows):
    return pd.DataFrame(
        {"user_id": [row[0] for row in rows], "event_timestamp": pd.to_datetime([row[1] for row in rows], utc=True)}
    )


def values(job, column="plays"):
    return job.to_arrow()[column].to_pylist()


ROWS = [
    ("u1", at(0), at(0), 10),
    ("u1", at(1), at(1), 11),
    ("u1", at(1), at(5), 12),  # a correction of the row before, learned four hours later
    ("u2", at(0), at(0), 20),
]


def ask(store, rows, **arguments):
    return store.get_historical_features(entity_df=spine(rows), features=["plays_view:plays"], **arguments)
