"""The list of serving workers says who lives, and notifications arrive."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stillpoint.errors import CorruptData
from stillpoint.releases.presence import Notification, Notifications, Presence, WorkerKind, beat, leave, notify, present

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def client(redis_factory: Any) -> Iterator[Any]:
    client = redis_factory().client()
    yield client
    client.close()


def worker(name: str, **changes: Any) -> Presence:
    values: dict[str, Any] = {
        "worker": name,
        "kind": WorkerKind.SERVICE,
        "pid": 7,
        "address": "127.0.0.1:8090",
        "generation": 3,
        "release": "r0002",
        "at": NOW,
    }
    return Presence(**{**values, **changes})


def test_a_worker_that_beats_is_present_with_its_last_words(client: Any) -> None:
    beat(client, worker("a"))
    beat(client, worker("b", kind=WorkerKind.WORKER))
    beat(client, worker("a", loaded="r0003"))
    assert [(each.worker, each.loaded) for each in present(client)] == [("a", "r0003"), ("b", None)]


def test_a_worker_that_stops_beating_is_gone_after_its_time_to_live(client: Any) -> None:
    beat(client, worker("dead"), ttl_seconds=0.15)
    beat(client, worker("alive"))
    assert [each.worker for each in present(client)] == ["alive", "dead"]
    time.sleep(0.3)
    assert [each.worker for each in present(client)] == ["alive"]
    beat(client, worker("dead"))
    assert [each.worker for each in present(client)] == ["alive", "dead"]


def test_a_worker_that_leaves_is_gone_at_once(client: Any) -> None:
    beat(client, worker("a"))
    leave(client, "a")
    assert present(client) == []


def test_a_beat_that_cannot_be_read_is_named(client: Any) -> None:
    beat(client, worker("a"))
    client.set("{stillpoint:presence}:a", b'{"worker": "a"}')
    with pytest.raises(CorruptData, match="the beat of worker a in Redis cannot be read"):
        present(client)


def test_presence_needs_no_scan_of_the_key_space(client: Any) -> None:
    beat(client, worker("a"))
    client.config_resetstat()
    present(client)
    assert not {"cmdstat_scan", "cmdstat_keys"} & set(client.info("commandstats"))


def test_a_notification_reaches_every_listener(client: Any) -> None:
    news = Notification(what="announced", generation=4, release="r0003")
    heard: list[Notification | None] = []
    ready = threading.Barrier(4)

    def listen() -> None:
        with Notifications(client) as notifications:
            notifications.wait(0.05)
            ready.wait()
            heard.append(notifications.wait(5))

    threads = [threading.Thread(target=listen) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    assert notify(client, news) == 3
    for thread in threads:
        thread.join()
    assert heard == [news] * 3


def test_a_listener_survives_a_restart_of_redis_and_junk_on_the_channel(redis_factory: Any) -> None:
    server = redis_factory()
    client = server.client()
    news = Notification(what="switched", generation=4, release="r0003")
    with Notifications(client) as notifications:
        assert notifications.wait(0.05) is None
        client.publish("stillpoint:releases", b"junk")
        assert notifications.wait(0.1) is None
        server.kill()
        assert notifications.wait(0.3) is None
        server.restart()
        assert notifications.wait(0.3) is None
        assert notify(client, news) == 1
        assert notifications.wait(5) == news


def test_a_listener_survives_a_redis_that_refuses_it_the_channel(redis_factory: Any) -> None:
    server = redis_factory()
    client = server.client()
    news = Notification(what="switched", generation=4, release="r0003")
    client.execute_command("ACL", "SETUSER", "default", "resetchannels")
    with Notifications(client) as notifications:
        assert notifications.wait(0.3) is None
        client.execute_command("ACL", "SETUSER", "default", "allchannels")
        assert notifications.wait(0.3) is None
        assert notify(client, news) == 1
        assert notifications.wait(5) == news
