"""A stream begins where it was told to, refuses to read all again in silence, and tells of shards that were lost."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from ingestion.kinesis_shards import LostShard
from ingestion.kinesis_source import remember_lost
from ingestion.supervisor import Supervisor, query_identity, where_to_begin
from stillpoint.clock import system_clock, to_micros
from stillpoint.errors import InvalidInput
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings
from tests.support.wellness import FEATURES

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def filled(tmp_path):
    """A lake that another query has written to."""
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    for number in range(2):
        arrived = to_micros(AT + timedelta(seconds=number))
        properties = {"newest_arrival_us": arrived}
        lake.commit(Commit(writer="stream-abc", sequence=number, at=AT + timedelta(hours=1), properties=properties))
    lake.commit(Commit(writer="backfill-x", sequence=0, at=AT))
    return lake


def test_a_new_query_over_an_empty_lake_begins_at_the_beginning(tmp_path):
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    assert where_to_begin(tmp_path / "checkpoint", lake, None) == "TRIM_HORIZON"


def test_a_moved_checkpoint_is_refused_at_start_until_somebody_says_where_to_begin(tmp_path, filled, caplog):
    checkpoint = tmp_path / "checkpoint"
    for _ in range(2):  # a refusal leaves nothing behind that a second start would take for a query
        with pytest.raises(
            InvalidInput, match=r"is new, but .* stream-abc read before; .* `--start 2026-03-01T12:00:01Z` reads on"
        ):
            where_to_begin(checkpoint, filled, None)
    with caplog.at_level(logging.WARNING):
        assert where_to_begin(checkpoint, filled, "LATEST") == "LATEST"
    assert "lies twice in the lake until compaction" in caplog.text
    query_identity(checkpoint, "stillpoint")
    caplog.clear()
    assert where_to_begin(checkpoint, filled, None) == "TRIM_HORIZON"
    assert not caplog.text


def test_the_refusal_comes_before_spark_is_started(tmp_path, filled, monkeypatch):
    settings = Settings(_env_file=None, home=tmp_path, lake=filled.root)
    monkeypatch.setattr("ingestion.supervisor.spark_session", lambda *_, **__: pytest.fail("Spark was started"))
    with pytest.raises(InvalidInput, match="--start"):
        Supervisor(settings, clock=system_clock, start=None).run()


def test_a_lost_shard_is_counted_logged_and_told_once_and_not_again_after_a_restart(tmp_path, caplog):
    hook = tmp_path / "told"
    settings = Settings(_env_file=None, home=tmp_path, lake=str(tmp_path / "lake"), failure_hook=f"tee -a {hook}")
    supervisor = Supervisor(settings, clock=system_clock)
    (tmp_path / "stream").mkdir()
    remember_lost(tmp_path / "stream" / "lost_shards.json", [LostShard("shardId-7", "sequence number 5")])
    for _ in range(2):
        supervisor._count_lost()
    assert caplog.text.count("shardId-7 of stillpoint-events was gone before it had been read to its end") == 1
    assert hook.read_text().count("sequence number 5") == 1
    assert supervisor.metrics.registry.get_sample_value("stillpoint_lost_shards_total") == 1
    again = Supervisor(settings, clock=system_clock)
    again._count_lost()
    assert again.metrics.registry.get_sample_value("stillpoint_lost_shards_total") == 0
