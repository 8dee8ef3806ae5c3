"""A lake of many synthetic events, and jobs over it, each in a process of its own that tells its peak of memory.

    PYTHONPATH=. python tests/support/large_lake.py make|compact|daily|consent|erase FOLDER EVENTS [BUDGET]

A job prints one line of JSON: seconds, the process's peak of resident memory in MB, and what it did.
"""

import json
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stillpoint.app.load import load_app
from stillpoint.events.recorded import event_columns
from stillpoint.events.types import CATALOGUE_COLUMNS, USER_COLUMNS, Category
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake

APP = load_app(str(Path(__file__).parents[2] / "feature_repo"))
FEATURES = APP.features
EVENT_COLUMNS = event_columns(APP.events)
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
DAYS = 4
EVENTS_PER_USER = 50
CONTENTS = 2_000
ERASED = 1_000
_FILE_ROWS = 250_000


def texts(prefix: str, numbers: Any) -> pa.Array:
    """Return numbers as ids of equal length."""
    digits = pa.array(numbers + 10**12, pa.int64()).cast(pa.string())
    return pa.compute.binary_join_element_wise(prefix, pa.compute.utf8_slice_codeunits(digits, 1), "")


def made_events(start: int, count: int, users: int, day: datetime) -> pa.Table:
    """Return events of one day in the order of their arrival; the numbers of the records follow from `start`."""
    random = np.random.default_rng(start)
    micros = np.sort(random.integers(0, 86_399_000_000, count)) + int(day.timestamp()) * 1_000_000
    kinds = random.integers(0, 4, count)  # half of the events are plays
    play = kinds < 2
    columns = {
        "event_id": texts("00000000-0000-0000-0000-", np.arange(start, start + count)),
        "user_id": texts("user-", random.integers(0, users, count)),
        "type": pa.array(np.array(["content_start", "content_complete", "login", "navigation"])[kinds]),
        "event_timestamp": pa.array(micros, pa.timestamp("us", tz="UTC")),
        "arrived_at": pa.array(micros + 1_000, pa.timestamp("us", tz="UTC")),
        "platform": pa.repeat("ios", count),
        "play_id": pa.compute.if_else(pa.array(play), texts("p", random.integers(0, 30, count)), None),
        "content_id": pa.compute.if_else(pa.array(play), texts("c", random.integers(0, CONTENTS, count)), None),
        "category": pa.compute.if_else(
            pa.array(play), pa.array(np.array([str(one) for one in Category])[random.integers(0, 6, count)]), None
        ),
        "position_seconds": pa.compute.if_else(pa.array(kinds == 1), 60.0, None),
        "verdict": pa.repeat("on_time", count),
        "shard": pa.array(np.array([f"shardId-{n:012d}" for n in range(8)])[random.integers(0, 8, count)]),
        "sequence": texts("", np.arange(start, start + count)),
    }
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in EVENT_COLUMNS]
    return pa.Table.from_arrays([pa.chunked_array([one]).cast(f.type) for one, f in zip(arrays, EVENT_COLUMNS, strict=True)], schema=EVENT_COLUMNS)  # fmt: skip


def make(lake: Lake, events: int) -> dict[str, int]:
    """Write the events of four days, one record in fifty twice, their users, and a catalogue."""
    users = max(10, events // EVENTS_PER_USER)
    commits = 0
    for start in range(0, events, _FILE_ROWS):
        count = min(_FILE_ROWS, events - start)
        day = NOON.replace(hour=0) - timedelta(days=DAYS - start * DAYS // events)
        rows = made_events(start, count, users, day)
        rows = pa.concat_tables([rows, rows.slice(0, count // 50)])  # a replay
        file = lake.write("events", day.date(), f"made-{commits:06d}", rows)
        lake.commit(Commit(writer="made", sequence=commits, at=NOON + timedelta(seconds=commits), files=(file,)))
        commits += 1
    for start in range(0, users, _FILE_ROWS):
        numbers = np.arange(start, min(users, start + _FILE_ROWS))
        same = {
            "signed_up_at": NOON - timedelta(days=100),
            "locale": "en",
            "subscribed": True,
            "updated_at": NOON - timedelta(days=9),
        }
        columns = {
            **{name: pa.repeat(value, len(numbers)) for name, value in same.items()},
            "gender": pa.nulls(len(numbers)),
        }
        columns |= {"user_id": texts("user-", numbers), "push_opt_in": pa.array(numbers % 2 == 0)}
        table = pa.table(
            {field.name: columns[field.name].cast(field.type) for field in USER_COLUMNS}, schema=USER_COLUMNS
        )
        file = lake.write("users", NOON.date(), f"made-{start:09d}", table)
        lake.commit(Commit(writer="users", sequence=start, at=NOON, files=(file,)))
    content = {**dict.fromkeys(CATALOGUE_COLUMNS.names), "title": "Rain", "description": "", "category": "sleep"}
    content |= {
        "duration_seconds": 60,
        "published_at": NOON - timedelta(days=9),
        "updated_at": NOON - timedelta(days=9),
    }
    rows = [{**content, "content_id": name} for name in texts("c", np.arange(CONTENTS)).to_pylist()]
    file = lake.write("catalogue", NOON.date(), "made", pa.Table.from_pylist(rows, schema=CATALOGUE_COLUMNS))
    lake.commit(Commit(writer="catalogue", sequence=0, at=NOON, files=(file,)))
    return {"users": users, "files": commits}


class OneDirection:
    """An encoder that reads no model."""

    sha256 = "0" * 64

    def encode(self, titles: list[str]) -> Any:
        rows = np.zeros((len(titles), 256), dtype=np.float32)
        rows[:, 0] = 1.0
        return rows


def do(job: str, lake: Lake, events: int, budget: int) -> dict[str, Any]:
    """Do one job over the lake and return what can be said of its result."""
    users = max(10, events // EVENTS_PER_USER)
    if job == "make":
        return dict(make(lake, events))
    if job == "compact":
        from ingestion.compact import compact

        return dict(compact(lake, before=NOON.date(), at=NOON, budget=budget))
    if job == "daily":
        from ingestion.daily import daily

        day = NOON.date()
        return dict(daily(lake, day, day, at=NOON, app=APP, encoder=OneDirection(), writers={}, budget=budget))
    if job == "consent":
        from inference.worker.push_consent import opted_in

        known = opted_in(lake, budget=budget)
        asked = texts("user-", np.arange(min(users, 1_000))).to_pylist()
        return {"opted_in": sum(one in known for one in asked), "asked": len(asked)}
    from privacy.erasure.lake import LakeErasure

    own = LakeErasure(lake, frozenset(texts("user-", np.arange(min(users, ERASED))).to_pylist()), "run")
    own.supersede(at=NOON)
    own.purge()
    return {"erased_rows": sum(one.removed["events"] for one in own.traces.values()), "users": len(own.users)}


def main() -> None:
    job, folder, events = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    budget = int(sys.argv[4]) if len(sys.argv) > 4 else 128 * 1024 * 1024
    began = time.monotonic()
    result = do(job, Lake(LocalObjects(folder), FEATURES), events, budget)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(
        json.dumps(
            {
                "job": job,
                "events": events,
                "seconds": round(time.monotonic() - began, 1),
                "peak_mb": peak,
                "result": result,
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
