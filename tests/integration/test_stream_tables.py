"""Plain Spark SQL can read the lake, and the reconciliation finds what is wrong."""

import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from ingestion import compact as merging
from ingestion.backfill import backfill
from ingestion.cli import events as commands
from ingestion.compact import compact, merge
from ingestion.daily import daily
from ingestion.reconcile import reconcile
from stillpoint.encoder import WordLlamaEncoder
from stillpoint.events.parsing import ParsedEvent
from stillpoint.events.recorded import events_table
from stillpoint.events.types import Verdict
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import ALL_DATES, by_date, feature_dataset, newest_rows
from stillpoint.lake.tables import Lake
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.stream_world import SimulatedUsers
from tests.support.wellness import APP, DAILY_VIEWS, EVENT_COLUMNS, FEATURES, STREAMED_VIEWS, parse
from tests.support.wellness import view as view_named

DAY = datetime(2026, 3, 2, 12, tzinfo=UTC)


def fill(lake, *, sequence=0, seed=1, day=DAY):
    """Commit some events of a day as a stream does, once more with the same records if repeated."""
    events = []
    for number, (_, payload) in enumerate(SimulatedUsers(8, seed).some(120, day)):
        event = parse(payload, int(day.timestamp()) * 1_000_000 + number)
        if isinstance(event, ParsedEvent):
            events.append(event.arrival)
    table = events_table(
        EVENT_COLUMNS,
        events,
        [Verdict.ON_TIME] * len(events),
        [f"shard-{seed}"] * len(events),
        [str(n) for n in range(len(events))],
    )
    files = tuple(lake.write("events", d, f"s{seed}-{sequence}", part) for d, part in by_date(table))
    sums = {"verdict_on_time": len(events)}
    lake.commit(Commit(writer="stream-a", sequence=sequence, at=day, files=files, properties=sums))
    return len(events)


def test_plain_spark_sql_counts_exactly_the_committed_rows(lake: Lake, spark):
    count = fill(lake)
    fill(lake, sequence=1)
    backfill(lake, ALL_DATES, at=DAY, app=APP)
    backfill(lake, ALL_DATES, at=DAY, app=APP)
    lake.write("events", DAY.date(), "uncommitted", lake.read("events"))

    def counted(dataset):
        spark.read.parquet(f"{lake.root}/tables/{dataset}").createOrReplaceTempView("rows")
        return spark.sql("select count(*) as n from rows").first().n

    compact(lake, before=date(2026, 3, 3), at=DAY)
    assert counted("events") == count
    for view in STREAMED_VIEWS:
        rows = newest_rows(lake.read(feature_dataset(view)), "user_id").num_rows
        assert counted(feature_dataset(view)) == rows == lake.read(feature_dataset(view)).num_rows
    assert compact(lake, before=date(2026, 3, 3), at=DAY) == {}
    more = fill(lake, sequence=2, seed=2)
    assert Lake(lake.objects, FEATURES).read("events").num_rows == count + more
    compact(lake, before=date(2026, 3, 3), at=DAY)
    assert counted("events") == count + more == Lake(lake.objects, FEATURES).read("events").num_rows


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


@pytest.fixture
def few(monkeypatch):
    """Let four files be many."""
    monkeypatch.setattr(merging, "MANY_FILES", 4)


def small_files(lake, count=6):
    """Commit a day in small files, some rows twice; return the rows of each dataset."""
    for number in range(count):
        fill(lake, sequence=number, seed=number % (count - 2))
        backfill(lake, ALL_DATES, at=DAY + timedelta(seconds=number), app=APP)
    return {name: sorted_rows(lake, name) for name in ("events", *map(feature_dataset, STREAMED_VIEWS))}


def sorted_rows(lake, dataset):
    return sorted(map(str, Lake(lake.objects, FEATURES).read(dataset).to_pylist()))


def test_many_small_files_of_an_open_day_become_one_of_the_same_rows_without_copies(lake: Lake, few):
    rows = small_files(lake)
    assert len(rows["events"]) > len(set(rows["events"]))
    merged = merge(lake, since=DAY.date(), at=DAY + timedelta(hours=1))
    assert merged["events"] == 6
    for dataset, expected in rows.items():
        assert len(lake.files(dataset)) == 1
        assert sorted_rows(lake, dataset) == sorted(set(expected))
    assert merge(lake, since=DAY.date(), at=DAY + timedelta(hours=2)) == {}

    more = fill(lake, sequence=100, seed=100)
    compact(lake, before=date(2026, 3, 3), at=DAY + timedelta(days=1))
    (table,) = lake.files("events")
    assert table.path == "tables/events/date=2026-03-02/rows.parquet"
    assert lake.read("events").num_rows == len(set(rows["events"])) + more


def test_files_are_merged_in_parts_and_other_days_and_few_files_are_left_alone(lake: Lake, monkeypatch):
    rows = small_files(lake)
    assert merge(lake, since=DAY.date(), at=DAY) == {}
    monkeypatch.setattr(merging, "MANY_FILES", 4)
    assert merge(lake, since=DAY.date() + timedelta(days=1), at=DAY) == {}
    monkeypatch.setattr(merging, "MERGED_ROWS", len(rows["events"]) // 2)
    merge(lake, since=DAY.date(), at=DAY)
    assert 2 <= len(lake.files("events")) <= 3
    assert set(sorted_rows(lake, "events")) == set(rows["events"])


def test_a_merge_killed_before_its_commit_changes_nothing_and_is_done_again(lake: Lake, few, monkeypatch):
    rows = small_files(lake)
    with monkeypatch.context() as patch:
        patch.setattr(lake, "commit", lambda commit: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            merge(lake, since=DAY.date(), at=DAY)
    assert sorted_rows(lake, "events") == rows["events"]
    merge(lake, since=DAY.date(), at=DAY)
    assert sorted_rows(lake, "events") == sorted(set(rows["events"]))


@pytest.fixture
def told(lake: Lake, redis_server, unique, monkeypatch, tmp_path):
    """A lake and two colours that agree, and the command as an operator calls it: exit code and JSON."""
    fill(lake)
    backfill(lake, ALL_DATES, at=DAY, app=APP)
    users = pa.table(
        {
            "user_id": ["user-1"],
            "subscribed": [True],
            "push_opt_in": [True],
            "signed_up_at": pa.array([DAY - timedelta(days=40)], pa.timestamp("us", "UTC")),
            "updated_at": pa.array([DAY - timedelta(days=40)], pa.timestamp("us", "UTC")),
        }
    )
    columns = lake.columns("users")
    users = pa.table(
        [users[f.name] if f.name in users.column_names else pa.nulls(1, f.type) for f in columns], schema=columns
    )
    lake.commit(Commit(writer="users", sequence=0, at=DAY, files=(lake.write("users", DAY.date(), "u", users),)))
    client = redis_server.client()
    views = tuple(view.name for view in STREAMED_VIEWS)
    projects = {Colour.GREEN: f"g_{unique}", Colour.BLUE: f"b_{unique}"}
    write_control(lake.objects, tuple(Target(colour=c, project=p, views=views) for c, p in projects.items()))
    writers = {project: OnlineWriter(client, project) for project in projects.values()}
    daily(
        lake,
        date(2026, 3, 2),
        date(2026, 3, 3),
        at=DAY + timedelta(days=1),
        app=APP,
        encoder=WordLlamaEncoder(),
        writers=writers,
    )
    for writer in writers.values():
        for view in STREAMED_VIEWS:
            writer.write(ViewLayout.of(view), lake.read(feature_dataset(view)))
    monkeypatch.setenv("STILLPOINT_LAKE", lake.root)
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))
    for colour in ("GREEN", "BLUE"):
        monkeypatch.setenv(f"STILLPOINT_REDIS_{colour}", redis_server.connection_string)

    def run():
        answer = CliRunner().invoke(commands, ["reconcile", "--json"])
        return answer.exit_code, json.loads(answer.stdout)

    return run, client, projects


def planted(lake, client, project, view, what):
    """Make one thing differ for one user, and return what makes it good again."""
    declared = view_named(view)
    layout = ViewLayout.of(declared)
    user = lake.read(feature_dataset(declared))["user_id"][0].as_py()
    key, stranger = encode_keys(layout, pa.table({"user_id": [user, "a-stranger"]}), project)
    before = client.hgetall(key)
    if what == "missing":
        client.hdel(key, layout.event_field)
    elif what == "different":
        client.hset(key, layout.fields[0], b"")
    elif what == "created time":
        client.hset(key, layout.created_field, before[layout.created_field][:-1] + b"~")
    else:
        client.hset(stranger, mapping=before)
    return lambda: (client.delete(stranger), client.hset(key, mapping=before))


def test_the_command_is_red_for_each_planted_difference_in_any_colour_and_green_without(told, lake):
    run, client, projects = told
    code, result = run()
    assert (code, result["difference"], result["damaged_files"]) == (0, 0, [])
    assert result["records"] == result["verdicts"]["on_time"] > 0
    assert set(result["views"]) == {f"{p}/{v.name}" for p in projects.values() for v in (*STREAMED_VIEWS, *DAILY_VIEWS)}
    for project in projects.values():
        assert result["views"][f"{project}/user_profiles"]["equal"] == 1
        assert result["views"][f"{project}/biometrics"]["equal"] > 0
    for colour, view, what in [
        (Colour.GREEN, "user_profiles", "missing"),
        (Colour.BLUE, "user_profiles", "different"),
        (Colour.BLUE, "biometrics", "created time"),
        (Colour.GREEN, "search_embeddings", "extra"),
    ]:
        repair = planted(lake, client, projects[colour], view, what)
        code, result = run()
        assert code == 1
        place = f"{projects[colour]}/{view}"
        assert result["views"][place][what if what in ("missing", "extra") else "different"] == 1
        assert {name for name, found in result["views"].items() if found["different"] + found["missing"]} <= {place}
        repair()
        assert run()[0] == 0
    lake.commit(Commit(writer="stream-a", sequence=9, at=DAY + timedelta(seconds=1), properties={"verdict_late": 3}))
    code, result = run()
    assert (code, result["unequal_commits"]) == (1, ["commits/stream-a/000000000009.json"])
    gone = lake.files("events")[0].path
    lake.objects.put(gone, b"PAR1 but no more")
    code, result = run()
    assert (code, result["damaged_files"], result["difference"]) == (1, [gone], 2)
    lake.objects.delete(gone)
    assert run()[1]["damaged_files"] == [gone]


def test_what_a_fill_leaves_out_as_too_old_is_no_difference_and_what_it_must_fill_is(told, lake):
    run, client, projects = told
    project = projects[Colour.GREEN]
    views = {project: (client, [view.name for view in STREAMED_VIEWS])}
    declared = view_named("biometrics")
    layout = ViewLayout.of(declared)
    rows = newest_rows(lake.read(feature_dataset(declared)), "user_id")
    newest = {row["user_id"]: row for row in rows.to_pylist()}
    users = sorted(newest, key=lambda user: newest[user]["event_timestamp"])
    (first, last), count = (users[0], users[-1]), len(users)
    keys = encode_keys(layout, pa.table({"user_id": [first, last]}), project)
    for key in keys:
        client.hdel(key, layout.event_field, layout.created_field, *layout.fields)
    edge = newest[first]["event_timestamp"] + declared.ttl

    def compared(at):
        return reconcile(lake, views, clock=lambda: at).views[f"{project}/biometrics"]

    assert (compared(edge).missing, compared(edge).expired) == (2, 0)
    later = compared(edge + timedelta(microseconds=1))
    assert (later.missing, later.expired, later.equal) == (1, 1, count - 2)
    over = compared(newest[last]["event_timestamp"] + declared.ttl + timedelta(seconds=1))
    assert (over.difference, over.expired) == (0, 2)
    assert run()[0] == 0  # months later, by the machine's clock

    old = pa.Table.from_pylist(
        [newest[first] | {"event_timestamp": DAY - timedelta(days=1), "created_timestamp": DAY - timedelta(days=1)}],
        schema=rows.schema,
    )
    OnlineWriter(client, project).write(layout, old)  # what an earlier fill had left
    assert compared(edge + timedelta(days=1)).difference == 0
    ahead = pa.Table.from_pylist([newest[first] | {"event_timestamp": edge}], schema=rows.schema)
    OnlineWriter(client, project).write(layout, ahead)  # what the lake does not know
    assert compared(edge + timedelta(days=1)).different == 1
