"""Views of contents and of pairs equal the plain definition in the stream, wherever a batch is cut off and however it is spread."""

import json
import uuid
from datetime import datetime, timedelta

import pytest

from ingestion.batch import open_clients, rules_of
from ingestion.rebuild import rebuild
from ingestion.state_store import StateStore
from stillpoint.app.load import load_app
from stillpoint.lake.tables import Lake
from stillpoint.tombstones import Tombstones
from tests.support.app_folders import SHARED_VIEWS, app_folder
from tests.support.batch_world import Killed, Parts, World
from tests.support.declared_views import assert_equals_the_oracle, listening


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return app_folder(tmp_path_factory.mktemp("keyed"), f"keyed_{uuid.uuid4().hex[:8]}", views=SHARED_VIEWS)


def assert_whole(world):
    assert_equals_the_oracle(world.lake, load_app(world.settings.app), {f"p_{world.query}": world.server.client()})


@pytest.fixture
def world(tmp_path, redis_server, unique, app):
    return World(tmp_path, redis_server, unique, app=app)


def batches(world):
    return [listening(seed, *part, at=world.now) for seed, part in ((1, (60,)), (2, (40, 60)), (3, (50, 100)))]


def test_rows_of_contents_and_pairs_equal_the_oracle_in_any_number_of_partitions(world):
    processor = world.processor()
    for number, (records, partitions) in enumerate(zip(batches(world), (1, 3, 2), strict=True)):
        processor.process(Parts(records, partitions), number)
    assert_whole(world)


CUTS = ["users saved", "one view of keys saved", "mark", "commit", "send"]


@pytest.mark.parametrize("place", CUTS)
def test_a_batch_cut_off_between_its_shuffles_or_anywhere_takes_effect_once(world, monkeypatch, place):
    world.processor().process(Parts(batches(world)[0], 2), 0)
    processor = world.processor()
    with monkeypatch.context() as patch:
        cut(patch, world, place)
        with pytest.raises(Killed):
            processor.process(Parts(batches(world)[1], 2), 1)
    world.fails = False
    again = world.processor()
    again.process(Parts(batches(world)[1], 3), 1)
    again.process(Parts(batches(world)[2], 1), 2)
    assert world.reports[1].is_replay == (place == "send")
    assert_whole(world)


def cut(patch, world, place):
    def killed(*_, **__):
        raise Killed

    save = StateStore.save
    spaces = []

    def save_some(self, changes, *, space="user", **around):
        spaces.append(space)
        if (place == "users saved" and space != "user") or len({one for one in spaces if one != "user"}) > 1:
            raise Killed
        save(self, changes, space=space, **around)

    if place.endswith("saved"):
        patch.setattr(StateStore, "save", save_some)
    elif place == "mark":
        patch.setattr(StateStore, "mark", killed)
    elif place == "commit":
        patch.setattr(world.lake, "commit", killed)
    else:
        world.fails = True


def test_states_of_keys_that_redis_lost_are_rebuilt_bit_for_bit(world):
    processor = world.processor()
    processor.process(Parts(batches(world)[0], 2), 0)
    processor.process(Parts(batches(world)[1], 2), 1)
    client = world.server.client()
    keys = sorted(client.scan_iter(f"stillpoint:state:{world.query}:view:*"))
    assert {key.split(b":")[4].split(b"@")[0] for key in keys} == {b"trending", b"surfaces"}
    before = [client.hget(key, "after") for key in keys]
    client.delete(*keys)
    stream = rules_of(world.settings).stream
    rebuild(
        Lake(world.lake.objects, world.lake.features),
        world.states,
        stream=stream,
        tombstones=Tombstones(b"k"),
        now=world.now,
        batch=1,
        epoch=9,
    )
    assert [client.hget(key, "after") for key in keys] == before


def test_an_event_older_than_its_key_remembers_is_computed_from_the_lake(world):
    """One shard lags 26 hours behind the other, and its events are on time by their own arrival."""
    clients = open_clients(world.settings, world.query, world.control)
    assert clients.rules.stream.engine.of_others
    ahead = [shifted(record, hours=26) for record in listening(5, 40, at=world.now)]
    processor = world.processor()
    processor.process(Parts(listening(1, 30, at=world.now), 2), 0)
    processor.process(Parts(ahead, 2), 1)
    lagging = [
        record._replace(partition_key="u9", data=record.data.replace(record.partition_key.encode(), b"u9"))
        for record in listening(7, 30, 30, at=world.now)
    ]
    processor.process(Parts(lagging, 2), 2)
    assert_whole(world)


def shifted(record, **by):
    document = json.loads(record.data)
    moved = timedelta(**by) // timedelta(microseconds=1)
    document["event_timestamp"] = (datetime.fromisoformat(document["event_timestamp"]) + timedelta(**by)).isoformat()
    document["event_id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, document["event_id"]))
    return record._replace(
        arrived_us=record.arrived_us + moved,
        sequence=str(int(record.sequence) + 50_000),
        data=json.dumps(document).encode(),
    )
