"""Features are written, read and deleted on a real Redis Cluster, while slots move too."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from redis.crc import key_slot

from inference.predictions.stored_recommendations import Recommendations
from ingestion.batch import open_clients, rules_of
from ingestion.rebuild import needs_rebuild, rebuild
from ingestion.state_store import StatesLost, StateStore
from ingestion.supervisor import refuse_unfit_redis
from release import colour
from stillpoint.clock import to_micros
from stillpoint.errors import StackUnavailable
from stillpoint.finished import add_finished
from stillpoint.lake.tables import Lake
from stillpoint.outages import Outage, outage
from stillpoint.releases.presence import (
    ORDERED,
    Notifications,
    Presence,
    WorkerKind,
    beat,
    leave,
    notify,
    present,
)
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import AsyncOnlineReader, OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import Topology, connect, connect_async, is_cluster
from stillpoint.stores.redis.deletion import delete_project
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.shards import EvictionPossible, refuse_eviction, shard_clients
from stillpoint.stores.redis.writer import OnlineWriter, WriteResult, encode_rows
from stillpoint.stores.values.types import ValueType
from stillpoint.tombstones import Tombstones
from tests.support.batch_world import Parts, World
from tests.support.cluster_load import RECOVERY_SECONDS, Features, Lists, Requests, States, Work, seconds_until_all_work
from tests.support.redis_cluster import Cluster, until
from tests.support.wellness import FEATURES, SEARCH_EMBEDDINGS

LAYOUT = ViewLayout("v", (Column("user_id", ValueType.STRING),), (Column("n", ValueType.INT64),))
PLAN = ReadPlan("p", (LAYOUT,))
WIDE = ViewLayout("wide", LAYOUT.join_keys, tuple(Column(f"w{n}", ValueType.INT64) for n in range(60)))
USERS = [f"u{n}" for n in range(500)]


@pytest.fixture(autouse=True)
def _left_whole(redis_cluster: Cluster) -> Iterator[None]:
    """Leave the cluster whole, also where a test has failed while a server was down."""
    yield
    redis_cluster.mend()


def table(event_us: int, value: int) -> Any:
    stamp = pa.timestamp("us", tz="UTC")
    return pa.table(
        {"user_id": USERS, "event_timestamp": pa.array([event_us] * len(USERS), stamp), "n": [value] * len(USERS)}
    )


def test_rows_reach_their_slots_in_order_and_are_read_back(redis_cluster: Cluster) -> None:
    client = redis_cluster.client()
    writer = OnlineWriter(client, "p")
    assert writer.write(LAYOUT, table(10**15, 1)) == WriteResult(500, 0)
    assert writer.write(LAYOUT, table(10**15 - 1, 9)) == WriteResult(0, 500)
    assert writer.write(LAYOUT, table(10**15 + 1, 2)) == WriteResult(500, 0)
    assert all(node.dbsize() > 100 for _, node in shard_clients(client))
    answer = OnlineReader(client, PLAN).read(["v"], {"user_id": [*USERS, "nobody"]}, now_us=10**15)
    assert answer.values("n") == [2] * 500 + [None]
    client.close()


def test_asyncio_writes_and_reads(redis_cluster: Cluster) -> None:
    async def act() -> list[int]:
        client = connect_async(redis_cluster.connection_string)
        await OnlineWriter(client, "q").write_encoded_async(LAYOUT, encode_rows(LAYOUT, table(5, 3), "q"))
        answer = await AsyncOnlineReader(client, ReadPlan("q", (LAYOUT,))).read(
            ["v"], {"user_id": USERS}, now_us=0, mode=Mode.COMPAT
        )
        await client.aclose()
        return answer.values("n")

    assert asyncio.run(act()) == [3] * 500


def test_a_slot_that_moved_is_followed(redis_cluster: Cluster) -> None:
    client = redis_cluster.client()
    writer, reader = OnlineWriter(client, "p"), OnlineReader(client, PLAN)
    writer.write(LAYOUT, table(10**15 + 2, 4))
    moving = table(10**15, 4).slice(0, 1)
    for column in WIDE.features:
        moving = moving.append_column(column.name, pa.array([6]))
    writer.write(WIDE, moving)
    wide = OnlineReader(client, ReadPlan("p", (WIDE,)))

    def whole() -> set[Any]:
        return {
            wide.read(["wide"], {"user_id": USERS[:1]}, now_us=10**15).values(column.name)[0]
            for column in WIDE.features
        }

    assert whole() == whole() == {6}
    key = encode_keys(LAYOUT, table(0, 0), "p")[0]
    slot = key_slot(key)
    source = redis_cluster.owner_of_slot(slot)
    target = redis_cluster.owner_of_slot((slot + 6_000) % 16_384)
    redis_cluster.begin_move(slot, target)
    redis_cluster.move_keys(slot, source, target)
    assert reader.read(["v"], {"user_id": USERS}, now_us=10**15).values("n") == [4] * 500  # ASK
    assert whole() == {6}
    redis_cluster.end_move(slot, target)
    assert reader.read(["v"], {"user_id": USERS}, now_us=10**15).values("n") == [4] * 500  # MOVED
    assert writer.write(LAYOUT, table(10**15 + 3, 5)) == WriteResult(500, 0)
    assert reader.read(["v"], {"user_id": USERS}, now_us=10**15).values("n") == [5] * 500
    client.close()


def test_emptying_a_project_empties_every_node(redis_cluster: Cluster) -> None:
    client = redis_cluster.client()
    OnlineWriter(client, "shadow_r").write(LAYOUT, table(10**15, 1))
    OnlineWriter(client, "r").write(LAYOUT, table(10**15, 1))
    assert delete_project(client, "r") == 500
    assert (
        OnlineReader(client, ReadPlan("shadow_r", (LAYOUT,))).read(["v"], {"user_id": USERS}, now_us=10**15).values("n")
        == [1] * 500
    )
    client.close()


def test_one_address_is_found_to_be_a_cluster(redis_cluster: Cluster) -> None:
    for topology in (None, Topology.SINGLE):
        client = connect(redis_cluster.endpoint, topology=topology)
        assert is_cluster(client)
        assert OnlineWriter(client, "endpoint").write(LAYOUT, table(10**15, 1)).written + client.dbsize() > 500
        client.close()

    async def act() -> list[int]:
        client = connect_async(redis_cluster.endpoint)
        answer = await AsyncOnlineReader(client, ReadPlan("endpoint", (LAYOUT,))).read(
            ["v"], {"user_id": USERS}, now_us=10**15
        )
        await client.aclose()
        return answer.values("n")

    assert asyncio.run(act()) == [1] * 500


def test_a_script_is_sent_in_full_to_a_node_that_does_not_know_it(redis_cluster: Cluster) -> None:
    client = redis_cluster.client()
    for _, node in shard_clients(client):
        node.script_flush()
    add_finished(client, [(user, "c1", 5) for user in USERS[:50]])
    assert Recommendations(client).finished(USERS[:50]) == [frozenset({"c1"})] * 50
    client.close()


def met_outage(act: Callable[[], object]) -> Outage | None:
    """Do something, and return the outage that it met; any other error is raised."""
    try:
        act()
    except Exception as error:
        found = outage(error)
        if found is None:
            raise
        return found
    return None


@contextmanager
def load(redis_cluster: Cluster, name: str, *more: Callable[[int], None]) -> Iterator[list[Work]]:
    """Run every kind of work, and `more`, each begun; check in the end that nothing failed and all can be read."""
    client = redis_cluster.client()
    features = Features(client, f"load_{name}")
    lists = Lists(client, name)
    states = States(redis_cluster.client, name)
    works = [Work(step) for step in (features.step, lists.step, states.step, *more)]
    try:
        seconds_until_all_work(works)
        yield works
        done = [work.end() for work in works]
    finally:
        for work in works:
            work.end()
    features.check(done[0] - 1)
    assert StateStore(client, name).marked() == done[2] - 1
    client.close()


def test_beats_news_and_fill_markers_of_a_cluster_are_told_and_its_colour_is_measured(redis_cluster: Cluster) -> None:
    client = redis_cluster.client()
    presence = Presence(
        worker="w1",
        kind=WorkerKind.WORKER,
        pid=1,
        address="here",
        generation=1,
        release="r1",
        at=datetime(2026, 3, 2, tzinfo=UTC),
    )
    beat(client, presence)
    assert present(client) == [presence]
    with Notifications(client) as news:
        news.wait(1)
        notify(client, ORDERED)
        assert news.wait(5) == ORDERED
    leave(client, "w1")
    assert present(client) == []
    OnlineWriter(client, "measured").write(LAYOUT, table(10**15, 1))
    colour.mark(client, "measured", mapping_version=3, fill_complete=True)
    assert colour.fill_marker(client, "measured").mapping_version == 3
    found = colour.contents(client, ReadPlan("measured", (LAYOUT,)))
    assert (found.entities, found.per_view) == ({"user_id": 500}, {"v": 500})
    colour.refuse_full_memory(client, needed_bytes=1e6)
    assert colour.empty(client, "measured") == 500
    client.close()


def test_slots_move_under_load_and_nothing_waits_or_is_lost(redis_cluster: Cluster) -> None:
    with load(redis_cluster, "moved") as works:
        state = f"stillpoint:state:moved:user:{USERS[0]}".encode()
        for key in (encode_keys(LAYOUT, table(0, 0), "load_moved")[0], state):
            slot = key_slot(key)
            target = redis_cluster.owner_of_slot((slot + 6_000) % 16_384)
            source = redis_cluster.begin_move(slot, target)
            redis_cluster.move_keys(slot, source, target)
            seconds_until_all_work(works, steps=1)
            redis_cluster.end_move(slot, target)
            seconds_until_all_work(works, steps=1)
    assert works[0].outages == works[1].outages == 0


def test_a_replica_that_is_promoted_under_load_loses_nothing(redis_cluster: Cluster) -> None:
    with load(redis_cluster, "promoted") as works:
        primary = redis_cluster.owner_of_slot(0)
        redis_cluster.promote(redis_cluster.replica_of(primary))
        assert seconds_until_all_work(works) < RECOVERY_SECONDS
    redis_cluster.settle()


def test_a_primary_that_is_killed_under_load_is_replaced_and_nothing_is_lost_or_done_twice(
    redis_cluster: Cluster, tmp_path: Path
) -> None:
    world = World(tmp_path, redis_cluster, "stream")

    def lost(batch: int) -> bool:
        return needs_rebuild(world.states, batch)

    batches = [
        [*world.searches([n], "u1"), *world.searches([100 + n], "u2"), *world.searches([200 + n], "u3")]
        for n in range(1, 9)
    ]
    processor = world.processor()
    processor.process(Parts(batches[0], 2), 0)

    def start_again() -> None:
        """Start a run of the driver, which has clients of its own."""
        nonlocal processor
        open_clients.cache_clear()
        processor = world.processor()

    requests = Requests(redis_cluster.connection_string, tmp_path / "worker")
    with load(redis_cluster, "killed", requests.step) as works:
        killed = redis_cluster.owner(f"stillpoint:state:killed:user:{USERS[0]}")
        killed.kill()
        began = time.monotonic()
        for number, records in enumerate(batches[1:], 1):
            while (away := met_outage(lambda: processor.process(Parts(records, 2), number))) is not None:  # noqa: B023
                while away is not None:  # a run that is started while a primary is away fails, and is started again
                    assert time.monotonic() - began < RECOVERY_SECONDS, away
                    time.sleep(0.2)
                    away = met_outage(start_again)
                met_outage(lambda: lost(number - 1) and pytest.fail("states were lost"))  # noqa: B023
        assert time.monotonic() - began < RECOVERY_SECONDS
        assert seconds_until_all_work(works) < RECOVERY_SECONDS
    assert [verdict for _, verdict in world.stored()] == ["on_time"] * 24
    assert len(set(world.sent)) == 2 * 24  # a search asks for two kinds
    counts = OnlineReader(redis_cluster.client(), ReadPlan.of_features("p_stream", FEATURES)).read(
        [f"{SEARCH_EMBEDDINGS.name}:search_count_24h"],
        {"user_id": ["u1", "u2", "u3"]},
        now_us=to_micros(world.now + timedelta(minutes=5)),
    )
    assert counts.values("search_count_24h") == [8, 8, 8]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_primaries_that_die_one_after_the_other_under_load_lose_nothing(redis_cluster: Cluster) -> None:
    with load(redis_cluster, "soak") as works:
        for slot in (0, 6_000, 12_000) * 2:
            killed = redis_cluster.owner_of_slot(slot)
            killed.kill()
            assert seconds_until_all_work(works) < RECOVERY_SECONDS
            killed.restart()
            redis_cluster.settle()


def test_a_shard_that_lost_its_last_writes_shows_it_and_is_rebuilt(redis_cluster: Cluster, tmp_path: Path) -> None:
    world = World(tmp_path, redis_cluster, "lagging")
    stream = rules_of(world.settings).stream
    users = [f"u{n}" for n in range(30)]
    processor = world.processor()
    processor.process(Parts([r for n, user in enumerate(users) for r in world.searches([n], user)], 1), 0)
    client = redis_cluster.client()
    (_, node), *_ = shard_clients(client)
    old = {key: node.dump(key) for key in node.scan_iter("stillpoint:state:lagging:*", count=1_000)}
    processor.process(Parts([r for n, user in enumerate(users) for r in world.searches([100 + n], user)], 1), 1)
    whole = {key: client.hget(key, "after") for key in client.scan_iter("stillpoint:state:lagging:user:*")}
    for key, data in old.items():
        node.restore(key, 0, data, replace=True)
    with pytest.raises(StatesLost, match="up to batch 0, the lake is at 1"):
        processor.process(Parts(world.searches([200], "u0"), 1), 2)
    assert needs_rebuild(world.states, 1)
    rebuilt = rebuild(
        Lake(world.lake.objects, FEATURES),
        world.states,
        stream=stream,
        tombstones=Tombstones(b"key"),
        now=world.now,
        batch=1,
        epoch=99,
    )
    assert rebuilt == len(users)
    assert {key: client.hget(key, "after") for key in whole} == whole
    assert not needs_rebuild(world.states, 1)
    client.close()


def test_one_shard_that_may_drop_keys_is_named(redis_cluster: Cluster) -> None:
    client = redis_cluster.client()
    name, node = list(shard_clients(client))[1]
    node.config_set("maxmemory-policy", "volatile-lru")
    try:
        with pytest.raises(EvictionPossible, match=f"Redis at {name} has maxmemory-policy volatile-lru") as refused:
            refuse_eviction(client, "the stream's states")
    finally:
        node.config_set("maxmemory-policy", "noeviction")
    assert "CONFIG SET maxmemory-policy noeviction" in str(refused.value)
    assert len(refuse_eviction(client, "the stream's states")) == 3
    client.close()


def test_a_cluster_with_a_shard_down_is_refused_at_the_start_in_one_sentence(
    redis_cluster: Cluster, tmp_path: Path
) -> None:
    world = World(tmp_path, redis_cluster, "down")
    primary = redis_cluster.owner_of_slot(0)
    pair = [primary, redis_cluster.replica_of(primary)]
    for server in pair:
        server.kill()
    other = next(server for server in redis_cluster.servers if server not in pair)
    until(
        lambda: redis_cluster.node(other).execute_command("CLUSTER INFO")["cluster_state"] == "fail",
        "the cluster did not notice",
    )
    with pytest.raises(StackUnavailable) as refused:
        refuse_unfit_redis(world.settings, world.lake)
    assert "\n" not in str(refused.value)
    assert "is down" in str(refused.value)
