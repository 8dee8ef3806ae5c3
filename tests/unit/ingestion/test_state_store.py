"""A replayed batch finds the states from before it; a former holder of the lease and a Redis that restarted are refused."""

import itertools
import time

import hypothesis.strategies as st
import pytest
from hypothesis import given
from redis.crc import key_slot

from ingestion.rebuild import needs_rebuild
from ingestion.state_markers import EVERY, SLOTS, marker_keys
from ingestion.state_store import Change, StatesLost, StateStore
from stillpoint.clock import DAY
from stillpoint.errors import Fenced
from stillpoint.features.streamed.stream import AppStream
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.shards import EvictionPossible, refuse_eviction
from tests.support.wellness import APP

FAR = 4_000_000_000_000_000


@pytest.fixture
def store(redis_server, unique):
    return StateStore(redis_server.client(), unique)


def save(store, batch, states, epoch=1):
    loaded = store.load(list(states), batch, instance=store.instance())
    store.save({u: Change(loaded[u], after, FAR) for u, after in states.items()}, batch=batch, epoch=epoch)


def load(store, users, batch):
    return store.load(users, batch, instance=store.instance())


STREAM = AppStream(APP, encoder=None, max_event_age_us=DAY)


def test_a_batch_that_is_done_again_starts_from_the_states_before_it(store):
    save(store, 0, {"a": b"a0", "b": b"b0"})
    save(store, 1, {"a": b"a1"})
    assert load(store, ["a", "b", "c"], 1) == {"a": b"a0", "b": b"b0", "c": b""}
    save(store, 1, {"a": b"a1"})
    assert load(store, ["a", "b"], 1) == {"a": b"a0", "b": b"b0"}
    assert load(store, ["a", "b"], 2) == {"a": b"a1", "b": b"b0"}


def test_an_older_epoch_cannot_write(store):
    save(store, 3, {"a": b"new"}, epoch=2)
    with pytest.raises(Fenced, match="a newer run than epoch 1 has written"):
        store.save({"a": Change(b"", b"old", FAR)}, batch=3, epoch=1)
    assert load(store, ["a"], 4) == {"a": b"new"}


def test_an_older_batch_is_refused_before_it_computes(store):
    save(store, 5, {"a": b"x"})
    with pytest.raises(Fenced, match="batch 5 is stored already and this is batch 4"):
        load(store, ["a"], 4)


def test_states_expire_when_an_unknown_user_would_be_treated_alike(store, redis_server, unique):
    store.save({"a": Change(b"", b"x", FAR)}, batch=0, epoch=1)
    left_ms = redis_server.client().pttl(f"stillpoint:state:{unique}:user:a")
    assert abs(time.time() * 1_000 + left_ms - FAR / 1_000) < 5_000


def test_a_restarted_redis_is_noticed_even_if_it_answers(redis_factory, unique):
    server = redis_factory()
    store = StateStore(server.client(), unique)
    save(store, 0, {"a": b"a0"})
    store.mark(0)
    instance = store.instance()
    server.kill()
    server.restart()
    with pytest.raises(StatesLost, match="Redis restarted or failed over during a micro-batch"):
        store.load(["a"], 1, instance=instance)
    assert store.marked() is None


def test_the_marker_tells_how_far_all_states_are_stored(store):
    assert store.marked() is None
    store.mark(7)
    assert store.marked() == 7


def test_redis_that_drops_states_by_itself_is_noticed_refused_and_accepted_only_when_whole(redis_factory, unique):
    server = redis_factory({"maxmemory": "4mb", "maxmemory-policy": "volatile-lru"})
    store = StateStore(server.client(), unique)
    before = store.instance()
    users = {f"u{n}": Change(b"", b"x" * 2_000, FAR) for n in range(5_000)}
    store.save(users, batch=0, epoch=1)
    store.mark(0)
    assert 0 < len(store.absent(list(users))) < 5_000
    assert store.instance() != before
    assert needs_rebuild(store, 0)
    with pytest.raises(
        EvictionPossible, match="maxmemory-policy volatile-lru, under which it silently drops the states"
    ):
        refuse_eviction(server.client(), "the states")
    store.accept_dropped(store.shards())
    assert not needs_rebuild(store, 0)


def test_every_policy_but_noeviction_is_refused_also_where_config_is_forbidden(redis_factory):
    server = redis_factory()
    admin = server.client()
    admin.acl_setuser("plain", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-config"])
    client = connect(f"{server.connection_string},username=plain,password=any")
    for policy in ("allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-ttl"):
        admin.config_set("maxmemory-policy", policy)
        with pytest.raises(EvictionPossible) as refused:
            refuse_eviction(client, "features")
        assert policy in str(refused.value)
        assert f"redis-cli -p {server.port} CONFIG SET maxmemory-policy noeviction" in str(refused.value)
        assert "\n" not in str(refused.value)
    admin.config_set("maxmemory-policy", "noeviction")
    assert [shard.policy for shard in refuse_eviction(client, "features")] == ["noeviction"]


def test_a_marker_is_written_only_over_the_one_before_it(store):
    store.mark(3)
    store.mark(4, after=3)
    store.mark(4, after=3)
    with pytest.raises(StatesLost, match="a shard of Redis has lost states up to batch 5"):
        store.mark(6, after=5)
    assert store.marked() == 4
    store.unmark()
    with pytest.raises(StatesLost, match="up to batch 3"):
        store.mark(4, after=3)


@given(st.lists(st.integers(1, SLOTS - 1), max_size=40, unique=True), st.integers(1, 8))
def test_every_shard_has_a_marker_however_the_slots_lie(cuts, shards):
    edges = [0, *sorted(cuts), SLOTS]
    ranges = [(a, b - 1, f"shard{n % shards}") for n, (a, b) in enumerate(itertools.pairwise(edges))]
    slots = {key_slot(key) for key in marker_keys("q", ranges)}
    for shard in {shard for *_, shard in ranges}:
        assert any(first <= slot <= last for first, last, name in ranges if name == shard for slot in slots)


def test_markers_stay_the_same_ones_while_slots_move():
    whole = [(0, 8_191, "a"), (8_192, SLOTS - 1, "b")]
    moved = [(0, 7_000, "a"), (7_001, 8_191, "b"), (8_192, SLOTS - 1, "b")]
    assert marker_keys("q", whole) == marker_keys("q", moved)
    assert len(marker_keys("q", whole)) == SLOTS // EVERY
    assert marker_keys("q", None) == [b"stillpoint:state:q:marker"]
