"""Records for the declared views of an app, and the judge that compares what the stream left with the oracle."""

import json
import random
import uuid
from datetime import timedelta

import pyarrow as pa

from ingestion.kinesis_shards import Record
from stillpoint.app.views import CustomView
from stillpoint.clock import DAY, to_micros
from stillpoint.events.recorded import RecordedEvents
from stillpoint.features.streamed.history import AppHistory
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.tables import Lake
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import encode_rows
from tests.support import app_oracle as oracle


def listening(seed, count, first=0, *, at):
    """Plays of six users and three contents around a time; some are late, some copies, some tell of an old time."""
    rng = random.Random(seed)
    found = []
    for number in range(first, first + count):
        user, play = f"u{rng.randrange(6)}", rng.randrange(3)
        kind = rng.choice(["content_start", "content_start", "content_complete", "search", "login"])
        ago = rng.choice([0, 0, 1, 40, 61, 400, 3_000])
        document = {
            "schema_version": 1,
            "event_id": str(uuid.UUID(int=rng.randrange(40) if rng.random() < 0.2 else 1_000 + number)),
            "user_id": user,
            "type": kind,
            "event_timestamp": (at + timedelta(seconds=number - ago)).isoformat(),
            "platform": rng.choice(["ios", "web"]),
        }
        if kind == "search":
            document["query"] = "deep sleep"
        if kind.startswith("content"):
            document |= {
                "play_id": f"p{rng.randrange(9)}",
                "content_id": f"c{play}",
                "category": ["sleep", "focus", "move"][play],
            }
        if kind == "content_complete":
            document["position_seconds"] = rng.choice([3.5, 60, 600])
        arrived = to_micros(at) + number * 1_000_000
        found.append(Record(f"s{hash(user) % 2}", str(10_000 + number), user, arrived, json.dumps(document).encode()))
    return found


def assert_equals_the_oracle(lake, app, projects, *, without=()):
    """Rows in the lake, rows online and history equal the oracle's, for every view that is declared by aggregations.

    `projects` are Redis clients by the project whose rows they hold.
    """
    lake = Lake(lake.objects, app.features)
    arrivals = RecordedEvents(app.events).on_time(lake.read("events"))
    stream, history = AppStream(app, encoder=None, max_event_age_us=DAY), AppHistory(app)
    for view in app.views:
        if issubclass(view, CustomView) or view.name in without:
            continue
        expected = oracle.rows(view, arrivals)
        assert expected, view.name
        record = next(one for one in app.records if one.name == view.name)
        bits = [oracle.bits(row) for row in expected]
        found = oracle.newest(_stored(lake, record), len(record.entity.keys))
        assert [oracle.bits(found[key]) for key in sorted(found)] == bits, view.name
        assert [oracle.bits(row) for row in history.rows(view.name, arrivals)] == bits, view.name
        newest = {row[: len(record.entity.keys)]: row for row in expected}
        table = stream.tables({view.name: list(newest.values())})[view.name][1]
        for project, client in projects.items():
            _assert_online(client, project, ViewLayout.of(record), table)


def _stored(lake, record):
    columns = [*record.entity.keys, "event_timestamp", "created_timestamp", *record.feature_names]
    table = lake.read(f"features/{record.name}").select(columns)
    for name in ("event_timestamp", "created_timestamp"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
    return [tuple(row.values()) for row in table.to_pylist()]


def _assert_online(client, project, layout, table):
    rows = encode_rows(layout, table, project)
    for index, key in enumerate(rows.keys):
        wanted = [rows.events[index], rows.created[index], *(column[index] for column in rows.values)]
        assert client.hmget(key, layout.event_field, layout.created_field, *layout.fields) == wanted
