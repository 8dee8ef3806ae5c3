"""Values of the future are found by validation and taken out by a command, which brings the true ones back."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from stillpoint import cli
from stillpoint.clock import to_micros
from stillpoint.features.columns import rows_table
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.wellness import FEATURES, USER_PROFILES, USER_TASTE

FAR = to_micros(datetime(2999, 1, 1, tzinfo=UTC))


def profile(user, us, days):
    return (user, us, us, days, "regular", "f", "en", True)


@pytest.fixture
def world(tmp_path, redis_factory, monkeypatch):
    """A lake and a colour with true rows, and rows of the year 2999 that replaced some of them."""
    connection = redis_factory().connection_string
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    client = connect(connection)
    for name in ("GREEN", "BLUE", "SANDBOX", "SERVING", "STATE"):
        monkeypatch.setenv(f"STILLPOINT_REDIS_{name}", connection)
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))
    monkeypatch.setenv("STILLPOINT_LAKE", lake.root)
    writer = OnlineWriter(client, "stillpoint_green")
    now = datetime.now(UTC)
    yesterday = to_micros(now - timedelta(days=1))
    true = rows_table(USER_PROFILES, [profile(f"u{n}", yesterday, 10 + n) for n in range(4)])
    far = rows_table(USER_PROFILES, [profile(f"u{n}", FAR, 0) for n in range(2)])
    mixed = pa.concat_tables([far.slice(0, 1), rows_table(USER_PROFILES, [profile("u0", yesterday - 1, 9)])])
    for number, table in enumerate((true, far, mixed)):
        file = lake.write(feature_dataset(USER_PROFILES), now.date(), f"test-{number}", table)
        lake.commit(Commit(writer="test", sequence=number, at=now, files=(file,)))
        writer.write(ViewLayout.of(USER_PROFILES), table)
    return lake, client


def days(client, mode=Mode.ENFORCE):
    columns = OnlineReader(client, ReadPlan.of_features("stillpoint_green", FEATURES)).read(
        [USER_PROFILES.name], {"user_id": [f"u{n}" for n in range(4)]}, now_us=to_micros(datetime.now(UTC)), mode=mode
    )
    return list(columns.values("tenure_days"))


def outcome(capsys, *words):
    code = cli.run([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_validation_is_red_and_the_repair_brings_the_true_rows_back(world, capsys):
    lake, client = world
    assert (days(client, Mode.COMPAT), days(client)) == ([0, 0, 12, 13], [None, None, 12, 13])
    code, found = outcome(capsys, "validate", "lake")
    (profiles,) = [one for one in found if one["subject"] == f"features/{USER_PROFILES.name}"]
    red = [one for one in profiles["findings"] if not one["passed"]]
    assert code == 1
    assert {(one["check"], one["column"], one["unexpected"]) for one in red} >= {
        ("no_time_of_the_future", "event_timestamp", 3)
    }
    assert outcome(capsys, "validate", "online", "--colour", "green")[0] == 1
    code, counted = outcome(capsys, "repair", "future", "--dry-run")
    assert (code, counted["total"]) == (1, 5)
    assert days(client, Mode.COMPAT) == [0, 0, 12, 13]

    code, repaired = outcome(capsys, "repair", "future")
    assert code == 0
    assert repaired["lake"] == {feature_dataset(USER_PROFILES): 3}
    assert repaired["online"] == repaired["refilled"] == {f"stillpoint_green/{USER_PROFILES.name}": 2}
    assert days(client) == [10, 11, 12, 13]
    rows = Lake(lake.objects, FEATURES).read(feature_dataset(USER_PROFILES))
    assert sorted(rows["tenure_days"].to_pylist()) == [9, 10, 11, 12, 13]
    _, found = outcome(capsys, "validate", "lake")
    (profiles,) = [one for one in found if one["subject"] == f"features/{USER_PROFILES.name}"]
    assert profiles["passed"]
    assert outcome(capsys, "repair", "future")[1]["total"] == 0


def test_a_value_of_the_future_without_a_true_row_just_goes(world, capsys):
    _, client = world
    taste = rows_table(USER_TASTE, [("u9", FAR, FAR, *[0] * 6, *[None] * 6)])
    OnlineWriter(client, "stillpoint_blue").write(ViewLayout.of(USER_TASTE), taste)
    _, repaired = outcome(capsys, "repair", "future")
    assert repaired["refilled"][f"stillpoint_blue/{USER_TASTE.name}"] == 0
    columns = OnlineReader(client, ReadPlan.of_features("stillpoint_blue", FEATURES)).read(
        [USER_TASTE.name], {"user_id": ["u9"]}, now_us=to_micros(datetime.now(UTC)), mode=Mode.ENFORCE
    )
    assert columns.values(USER_TASTE.feature_names[0])[0] is None


def test_a_stored_list_of_the_future_goes_and_one_of_now_stays(world, capsys):
    _, client = world
    for user, us in (("u1", FAR), ("u2", to_micros(datetime.now(UTC)))):
        client.hset(
            f"stillpoint:rec:{user}:{Kind.TODAY}:r0001", mapping={"order": f"{us:020d}:x", "recommendation": "{}"}
        )
    assert outcome(capsys, "repair", "future")[1]["recommendations"] == 1
    assert not client.exists("stillpoint:rec:u1:today:r0001")
    assert client.exists("stillpoint:rec:u2:today:r0001")
