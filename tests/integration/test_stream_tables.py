"""Can anybody's Spark SQL read the lake, and does the reconciliation find what is wrong?"""

from datetime import UTC, date, datetime, timedelta

import pytest

from ingestion.backfill import backfill
from ingestion.compact import compact
from ingestion.reconcile import reconcile
from ingestion.spark import spark_session
from stillpoint.events import Verdict
from stillpoint.features.declarations import DAILY_VIEWS, STREAMED_VIEWS
from stillpoint.features.recorded import events_table
from stillpoint.features.validate import parse
from stillpoint.lake import ALL_DATES, Commit, Lake, by_date, feature_dataset, newest_rows
from stillpoint.settings import Settings
from stillpoint.stores.layout import ViewLayout
from stillpoint.stores.layout_keys import encode_keys
from stillpoint.stores.writer import OnlineWriter
from tests.stream_world import People

DAY = datetime(2026, 3, 2, 12, tzinfo=UTC)


def fill(lake, *, sequence=0, seed=1, day=DAY):
    """Commit some events of a day as a stream does, once more with the same records if repeated."""
    events = []
    for number, (_, payload) in enumerate(People(8, seed).some(120, day)):
        event = parse(payload, int(day.timestamp()) * 1_000_000 + number)
        if hasattr(event, "event_id"):
            events.append(event)
    table = events_table(
        events,
        [Verdict.ON_TIME] * len(events),
        [f"shard-{seed}"] * len(events),
        [str(n) for n in range(len(events))],
    )
    files = tuple(lake.write("events", d, f"s{seed}-{sequence}", part) for d, part in by_date(table))
    sums = {"verdict_on_time": len(events)}
    lake.commit(Commit(writer="stream-a", sequence=sequence, at=day, files=files, properties=sums))
    return len(events)


@pytest.mark.spark
def test_plain_spark_sql_counts_exactly_the_committed_rows(lake: Lake, tmp_path):
    count = fill(lake)
    fill(lake, sequence=1)
    backfill(lake, ALL_DATES, at=DAY)
    backfill(lake, ALL_DATES, at=DAY)
    lake.write("events", DAY.date(), "uncommitted", lake.read("events"))
    session = spark_session(Settings(_env_file=None, home=tmp_path), "tables", master="local[2]")

    def counted(dataset):
        session.read.parquet(f"{lake.root}/tables/{dataset}").createOrReplaceTempView("rows")
        return session.sql("select count(*) as n from rows").first().n

    compact(lake, before=date(2026, 3, 3), at=DAY)
    assert counted("events") == count
    for view in STREAMED_VIEWS:
        rows = newest_rows(lake.read(feature_dataset(view)), "user_id").num_rows
        assert counted(feature_dataset(view)) == rows == lake.read(feature_dataset(view)).num_rows
    assert compact(lake, before=date(2026, 3, 3), at=DAY) == {}
    more = fill(lake, sequence=2, seed=2)
    assert Lake(lake.objects).read("events").num_rows == count + more
    compact(lake, before=date(2026, 3, 3), at=DAY)
    assert counted("events") == count + more == Lake(lake.objects).read("events").num_rows


def test_a_compaction_killed_before_its_commit_is_done_again(lake: Lake, monkeypatch):
    count = fill(lake)
    with monkeypatch.context() as patch:
        patch.setattr(lake, "commit", lambda commit: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            compact(lake, before=date(2026, 3, 3), at=DAY)
    assert lake.read("events").num_rows == count
    compact(lake, before=date(2026, 3, 3), at=DAY)
    assert lake.read("events").num_rows == count


def test_days_that_are_not_closed_are_left_alone(lake: Lake):
    fill(lake)
    assert compact(lake, before=DAY.date(), at=DAY) == {}


def test_reconciliation_is_zero_and_finds_every_kind_of_difference(lake: Lake, redis_server, unique):
    fill(lake)
    backfill(lake, ALL_DATES, at=DAY)
    client = redis_server.client()
    writer = OnlineWriter(client, unique)
    names = tuple(view.name for view in STREAMED_VIEWS)
    for view in STREAMED_VIEWS:
        writer.write(ViewLayout.of(view), lake.read(feature_dataset(view)))
    result = reconcile(lake, {unique: (client, names)})
    assert result.difference == 0
    assert result.verdicts["on_time"] > 0
    assert all(result.views[f"{unique}/{name}"].equal for name in names)
    assert all(result.views[f"{unique}/{view.name}"].equal == 0 for view in DAILY_VIEWS)

    view = STREAMED_VIEWS[0]
    layout = ViewLayout.of(view)
    rows = newest_rows(lake.read(feature_dataset(view)), "user_id")
    users = sorted(set(rows["user_id"].to_pylist()))
    keys = encode_keys(layout, rows.select(["user_id"]), unique)
    by_user = dict(zip(rows["user_id"].to_pylist(), keys, strict=True))
    client.hdel(by_user[users[0]], layout.event_field)
    client.hset(by_user[users[1]], layout.fields[0], b"")
    stray = rows.slice(0, 1).set_column(0, rows.schema.field(0), [["a-stranger"]])
    writer.write(layout, stray)
    lake.commit(Commit(writer="stream-a", sequence=9, at=DAY + timedelta(seconds=1), properties={"verdict_late": 3}))
    found = reconcile(lake, {unique: (client, names)})
    compared = found.views[f"{unique}/{view.name}"]
    assert (compared.missing, compared.different, compared.extra) == (1, 1, 1)
    assert found.unequal_commits == ["commits/stream-a/000000000009.json"]
    assert found.difference == 4
