"""Does a replayed batch find the states from before it, and a zombie or a forgetful Redis no way in?"""

import time

import pytest

from ingestion.state_store import Change, StatesLost, StateStore
from stillpoint.errors import Fenced

FAR = 4_000_000_000_000_000


@pytest.fixture
def store(redis_server, unique):
    return StateStore(redis_server.client(), unique)


def save(store, batch, states, epoch=1):
    loaded = store.load(list(states), batch, instance=store.instance())
    store.save({u: Change(loaded[u], after, FAR) for u, after in states.items()}, batch=batch, epoch=epoch)


def load(store, users, batch):
    return store.load(users, batch, instance=store.instance())


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
