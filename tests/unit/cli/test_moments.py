"""Days and times on the command line are read before anything starts, and none is taken from the future."""

from datetime import UTC, date, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from stillpoint import cli
from stillpoint.cli import moments

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
DAYS = [
    "daily --from {}",
    "daily --to {}",
    "backfill --no-spark --from {}",
    "backfill --no-spark --to {}",
    "events compact --to {}",
    "events tail --start {}",
    "snapshot --cutoff {}",
    "snapshot --first {}",
    "events simulate --start {}",
    "validate parity --since {}",
    "validate drift nosuch --since {}",
]


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "system_clock", lambda: NOW)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Settings that reach no server: whoever asks one fails with another exit code."""
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("STILLPOINT_AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@pytest.mark.parametrize("command", DAYS)
@pytest.mark.parametrize("text", ["2999-01-01", "9999-12-31", "yesterday", "2026-02-30", ""])
def test_a_day_that_has_not_begun_or_is_none_is_a_usage_error(command: str, text: str, nowhere, capsys) -> None:
    assert cli.run([word.format(text) for word in command.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "--" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("verb", [["daily"], ["backfill", "--no-spark"]])
def test_a_range_that_ends_before_it_begins_is_a_usage_error(verb: list[str], nowhere, capsys) -> None:
    assert cli.run([*verb, "--from", "2026-03-02", "--to", "2026-03-01"]) == 2
    assert "--from 2026-03-02 lies after --to 2026-03-01" in capsys.readouterr().err


def test_labels_that_begin_after_the_cutoff_are_a_usage_error(nowhere, capsys) -> None:
    assert cli.run(["snapshot", "--first", "2026-03-02", "--cutoff", "2026-03-01"]) == 2
    assert "--first 2026-03-02 lies after the cutoff" in capsys.readouterr().err


def test_today_has_begun_and_tomorrow_has_not(at_noon) -> None:
    assert moments.day("2026-11-28") == date(2026, 11, 28)
    with pytest.raises(typer.BadParameter, match="2026-11-29 has not begun; today is 2026-11-28 UTC"):
        moments.day("2026-11-29")


@given(seconds=st.integers(-(10**9), 10**9), hours=st.integers(-14, 14), zoned=st.booleans())
def test_a_moment_is_the_same_in_every_zone_and_refused_beyond_the_tolerance(
    seconds: int, hours: int, zoned: bool
) -> None:
    from datetime import timezone

    meant = NOW + timedelta(seconds=seconds)
    there = meant.astimezone(timezone(timedelta(hours=hours)))
    text = there.isoformat() if zoned else meant.replace(tzinfo=None).isoformat()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "system_clock", lambda: NOW)
        if seconds > 60:
            with pytest.raises(typer.BadParameter, match="lies in the future"):
                moments.moment(text)
        else:
            assert moments.moment(text) == meant
            assert datetime.fromisoformat(moments.start(text)) == meant


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01", "LATEST "])
def test_what_is_no_moment_is_refused_in_words(text: str, at_noon) -> None:
    for parse in (moments.moment, moments.start):
        with pytest.raises(typer.BadParameter):
            parse(text)
    assert [moments.start(word) for word in ("TRIM_HORIZON", "LATEST")] == ["TRIM_HORIZON", "LATEST"]
