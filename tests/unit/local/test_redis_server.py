"""Our Redis runs as the product needs it."""

import pytest

from stillpoint.errors import StackUnavailable
from stillpoint.local import redis_server as room
from stillpoint.local.redis_server import RedisServer, find_redis


def test_server_answers_and_keeps_a_user_with_an_embedding_packed(redis_server: RedisServer, unique: str) -> None:
    client = redis_server.client()
    client.hset(unique, mapping={"a": b"1", "embedding": b"x" * 1100})
    assert client.object("encoding", unique) in (b"listpack", b"ziplist")
    client.delete(unique)
    client.close()


def test_server_listens_on_loopback_only(redis_server: RedisServer) -> None:
    client = redis_server.client()
    assert client.config_get("bind")["bind"] == "127.0.0.1"
    client.close()


def test_factory_passes_options_and_servers_do_not_share_data(redis_factory) -> None:
    first, second = redis_factory({"maxmemory": "8mb"}), redis_factory()
    assert first.client().config_get("maxmemory")["maxmemory"] == str(8 * 1024**2)
    first.client().set("k", "v")
    assert second.client().get("k") is None


def test_restart_after_a_kill_keeps_the_port_and_loses_the_data(redis_factory) -> None:
    server = redis_factory()
    server.client().set("k", "v")
    server.kill()
    server.restart()
    assert server.client().get("k") is None


def test_port_that_is_taken_is_refused(redis_factory) -> None:
    taken = redis_factory().port
    with pytest.raises(StackUnavailable, match=f"cannot start Redis: port {taken} on 127.0.0.1 is in use"):
        redis_factory(port=taken)


def test_no_redis_at_all_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StackUnavailable, match=r"no Redis server found: .*run `make setup`, or install Redis"):
        find_redis()
