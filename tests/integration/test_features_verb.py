"""`stillpoint features` shows what may be served of a user, and ends with 1 where nothing is known."""

import json
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from inference.ranking.user_features import UserReading
from stillpoint import cli
from stillpoint.clock import to_micros
from stillpoint.features.columns import rows_table
from stillpoint.releases.colour import Colour
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.wellness import FEATURES, USER_PROFILES


@pytest.fixture
def live(redis_server, unique, monkeypatch, tmp_path):
    """A live release whose colour holds one user as of an hour ago and one as of next year."""
    client, now = connect(redis_server.connection_string), datetime.now(UTC)
    rows = [
        (user, to_micros(at), to_micros(at), 605, "loyal", "f", "fr-FR", True)
        for user, at in (("u1", now - timedelta(hours=1)), ("u2", now + timedelta(days=365)))
    ]
    OnlineWriter(client, unique).write(ViewLayout.of(USER_PROFILES), rows_table(USER_PROFILES, rows))
    release = SimpleNamespace(
        id="r0001",
        release=SimpleNamespace(colour=Colour.GREEN),
        users=UserReading(FEATURES),
        reader=OnlineReader(client, ReadPlan.of_features(unique, FEATURES)),
    )
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr("inference.live.loaded_release.load_live", lambda *_, **__: release)


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_user_of_whom_nothing_is_known_is_one_sentence_and_code_one(form, capsys):
    assert cli.run(["features", "nobody", *form]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: release r0001 (green) knows nothing of user nobody\n")


@pytest.mark.usefixtures("live")
def test_what_is_known_is_shown_and_a_value_of_the_future_is_withheld_by_name(capsys):
    statuses = {}
    for user in ("u1", "u2"):
        assert cli.run(["features", user, "--json"]) == 0
        cell = json.loads(capsys.readouterr().out)["features"]["user_profiles__tenure_days"]
        statuses[user] = (cell["value"], cell["status"])
    assert statuses == {"u1": (605, "PRESENT"), "u2": (None, "OUTSIDE_MAX_AGE")}
    assert cli.run(["features", "u1"]) == 0
    shown = capsys.readouterr().out
    assert "user_profiles" in shown
    assert cli.run(["audit", "show", "--user", "u1", "--json"]) == 0
    noted = json.loads(capsys.readouterr().out)
    assert [(entry["action"], entry["details"]["what"]) for entry in noted] == [("read", "features")] * 2
    assert "u1" not in (json.dumps(noted)), "a user stands there as an HMAC"
    assert cli.run(["audit", "verify"]) == 0
    head = re.search(r"3 entries, every link holds\nhead (3:[0-9a-f]{64})", capsys.readouterr().out)
    assert head is not None
    assert cli.run(["audit", "verify", "--head", head[1]]) == 0
    assert cli.run(["audit", "verify", "--head", f"9{head[1]}"]) == 1
    assert "its end was cut off" in capsys.readouterr().out
    assert re.search(r"6\d\.\d min old", shown)
