"""A micro-batch takes effect once, in the right order, wherever it is cut off, on a real lake and Redis, without Spark."""

from collections import Counter

import pytest

from ingestion.batch import rules_of
from ingestion.rebuild import needs_rebuild, rebuild
from ingestion.state_audit import Audit, audit
from ingestion.state_store import StatesLost, StateStore
from ingestion.step import map_part
from ingestion.view_states import ViewStates
from stillpoint.errors import Fenced
from stillpoint.lake.tables import Lake
from stillpoint.releases.write_targets import read_acknowledged, write_control
from stillpoint.tombstones import Tombstones
from tests.support.batch_world import Killed, Parts, World
from tests.support.wellness import FEATURES


@pytest.fixture
def world(tmp_path, redis_server, unique):
    return World(tmp_path, redis_server, unique)


def batch(world):
    return [*world.searches([1, 2, 2, 3]), *world.searches([4, 5], "u2")]


def test_a_batch_that_is_cut_off_anywhere_takes_effect_once_when_done_again(world, monkeypatch):
    whole = None
    for place in ("save", "mark", "commit", "send"):
        fresh = World(world.settings.home / place, world.server, f"{world.query}{place}")
        processor = fresh.processor()
        with monkeypatch.context() as patch:
            if place == "send":
                fresh.fails = True
            elif place == "commit":
                patch.setattr(fresh.lake, "commit", lambda commit: (_ for _ in ()).throw(Killed))
            else:
                patch.setattr(StateStore, place, lambda *_, **__: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                processor.process(Parts(batch(world), 2), 0)
        assert fresh.sent == []
        fresh.fails = False
        again = fresh.processor()
        again.process(Parts(batch(world), 1), 0)
        again.process(Parts(world.searches([6]), 3), 1)
        result = (fresh.stored(), sorted(fresh.sent))
        assert [verdict for _, verdict in result[0]].count("duplicate") == 1
        assert len(result[0]) == 7
        whole = whole or result
        assert result == whole
        assert fresh.reports[0].is_replay == (place == "send")


def test_predictions_are_asked_for_only_after_the_commit(world):
    processor = world.processor()
    seen = []
    world._send = lambda requests: seen.append(Lake(world.lake.objects, FEATURES).committed(processor.writer, 0))
    processor._send = world._send
    processor.process(Parts(batch(world), 2), 0)
    assert seen == [True]


def test_a_zombie_commits_nothing(world):
    zombie = world.processor()
    world.processor()
    with pytest.raises(Fenced):
        zombie.process(Parts(batch(world), 1), 0)
    assert world.stored() == []
    assert world.sent == []


def test_a_new_control_generation_is_acknowledged_with_the_batch_that_obeys_it_or_while_idle(world):
    processor = world.processor()
    processor.process(Parts(batch(world), 1), 0)
    acknowledged = read_acknowledged(world.lake.objects)
    assert (acknowledged.generation, acknowledged.batch, acknowledged.writer) == (1, 0, f"stream-{world.query}")
    write_control(world.lake.objects, ())
    processor.acknowledge_if_idle()
    acknowledged = read_acknowledged(world.lake.objects)
    assert (acknowledged.generation, acknowledged.batch) == (2, None)


def test_lost_memory_stops_the_batch_and_is_rebuilt_bit_for_bit(world):
    world.processor().process(Parts(batch(world), 1), 0)
    client = world.server.client()
    keys = sorted(client.scan_iter(f"stillpoint:state:{world.query}:user:*"))
    before = [client.hget(key, "after") for key in keys]
    processor = world.processor()
    client.delete(*keys, f"stillpoint:state:{world.query}:marker")
    with pytest.raises(StatesLost, match="Redis knows the stream's memory up to batch None, the lake is at 0"):
        processor.process(Parts(world.searches([7]), 1), 1)
    stream = rules_of(world.settings).stream
    assert needs_rebuild(world.states, 0)
    count = rebuild(
        Lake(world.lake.objects, FEATURES),
        world.states,
        stream=stream,
        tombstones=Tombstones(b"key"),
        now=world.now,
        batch=0,
        epoch=9,
    )
    assert count == 2
    assert [client.hget(key, "after") for key in keys] == before
    assert not needs_rebuild(world.states, 0)


def test_states_of_version_one_go_on_and_a_view_that_left_is_no_longer_known(world):
    active = rules_of(world.settings).stream.sections
    world.processor().process(Parts(batch(world), 1), 0)
    client = world.server.client()
    noted = f"stillpoint:state:{world.query}:sections"
    client.set(noted, '["another@1"]')
    world.processor()
    assert world.states.views() == ViewStates(active=frozenset())
    client.delete(noted)
    world.processor()
    assert world.states.views() == ViewStates(active=active)
    assert not needs_rebuild(world.states, 0)
    assert not needs_rebuild(world.states, None)


def audited(world):
    return audit(
        Lake(world.lake.objects, FEATURES),
        world.query,
        world.states,
        stream=rules_of(world.settings).stream,
        tombstones=Tombstones(b"key"),
        now=world.now,
    )


def test_states_that_somebody_deleted_are_missed_by_counting_them_against_the_lake(world):
    world.processor().process(Parts(batch(world), 1), 0)
    assert audited(world) == Audit(2, Counter())
    world.server.client().delete(f"stillpoint:state:{world.query}:user:u2")
    assert not needs_rebuild(world.states, 0)
    found = audited(world)
    assert found.missing == Counter({f"127.0.0.1:{world.server.port}": 1})
    assert str(found) == f"1 of 2 states are missing: 1 on 127.0.0.1:{world.server.port}"


def test_a_batch_stops_before_it_computes_when_redis_has_dropped_keys(world, redis_factory, tmp_path):
    server = redis_factory({"maxmemory": "4mb", "maxmemory-policy": "allkeys-lru"})
    fresh = World(tmp_path / "dropping", server, world.query)
    processor = fresh.processor()
    processor.process(Parts(batch(world), 1), 0)
    client = server.client()
    for number in range(4_000):
        client.set(f"other{number}", b"x" * 2_000)
    with pytest.raises(StatesLost, match="Redis"):
        processor.process(Parts(world.searches([7]), 1), 1)
    assert needs_rebuild(fresh.states, 0)
    assert fresh.reports[-1].number == 0


def test_an_empty_partition_reports_nothing():
    assert list(map_part(iter([]), None)) == []
