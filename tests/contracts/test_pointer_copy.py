"""A function never answers with a release after the switch away from it was acknowledged, whatever becomes of Redis."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.errors import StackUnavailable
from stillpoint.lake.objects import LocalObjects
from stillpoint.local.redis_server import RedisServer
from stillpoint.releases import pointer_copy
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.pointer_copy import TRUST_SECONDS, LiveGeneration, PointerCopy, pointer_key
from stillpoint.releases.records import Pointer

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
OTHER = "f" * 40
"""The run id of another server process."""


class CountedBook(ObjectReleaseBook):
    """Counts how often it is asked, and does something while it answers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalObjects(folder))
        self.asked = 0
        self.meanwhile: list[Callable[[], object]] = []

    def live(self) -> Pointer | None:
        self.asked += 1
        found = super().live()
        do, self.meanwhile = self.meanwhile, []
        for one in do:
            one()
        return found


@dataclass
class World:
    """A book, and a Redis with the copy of its pointer."""

    client: Any
    book: CountedBook
    root: str
    copy: PointerCopy = field(init=False)

    def __post_init__(self) -> None:
        self.copy = PointerCopy(self.client, self.book, self.root)

    @property
    def key(self) -> str:
        return self.copy.key

    def create(self) -> int:
        """Create the next generation, and tell nobody."""
        after = ObjectReleaseBook.live(self.book)
        number = 1 if after is None else after.generation + 1
        self.book.point(f"r{number:04d}", after=after, at=AT, by="t", why="w")
        return number

    def switch(self) -> float:
        """Switch, and return how long it waits before it is acknowledged."""
        self.create()
        return self.copy.renew()

    def age(self, milliseconds: int) -> None:
        """Let the copy grow old."""
        self.client.hincrby(self.key, "until", -milliseconds)
        self.client.hincrby(self.key, "since", -milliseconds)
        if self.client.hexists(self.key, "asked"):
            self.client.hincrby(self.key, "asked", -milliseconds)

    def live(self) -> int | None:
        found = self.copy.live()
        return None if found is None else found.generation


@pytest.fixture
def world(tmp_path: Path, redis_server: RedisServer, unique: str) -> World:
    return World(redis_server.client(), CountedBook(tmp_path), f"s3://{unique}/lake")


def test_before_the_first_release_the_book_is_asked_and_nothing_is_copied(world: World) -> None:
    assert world.copy.live() is None
    assert world.copy.renew() == 0.0
    assert not world.client.hexists(world.key, "generation")


def test_the_book_is_asked_once_and_then_the_copy_until_it_is_half_as_old_as_it_may_be(world: World) -> None:
    world.create()
    assert world.copy.live() == LiveGeneration(1, "r0001")
    for _ in range(100):
        assert world.live() == 1
    assert world.book.asked == 1
    world.age(5_100)
    assert [world.live() for _ in range(100)] == [1] * 100
    assert world.book.asked == 2


def test_of_many_readers_of_an_ageing_copy_one_asks_the_book_and_when_that_one_died_the_others_do(world: World) -> None:
    world.switch()
    world.age(5_100)
    world.copy._look()  # who was to renew it dies
    world.book.asked = 0
    assert [world.live() for _ in range(20)] == [1] * 20
    assert world.book.asked == 0
    world.age(2_100)
    assert [world.live() for _ in range(20)] == [1] * 20
    assert world.book.asked == 1


def test_a_switch_is_seen_by_the_next_reader_and_ends_at_once(world: World) -> None:
    assert [world.switch(), world.live()] == [0.0, 1]
    assert [world.switch(), world.live()] == [0.0, 2]


def test_a_switch_that_was_killed_before_it_copied_is_seen_when_the_copy_has_run_out_and_not_acknowledged_before(
    world: World,
) -> None:
    world.switch()
    world.create()
    assert world.live() == 1
    world.age(10_001)
    assert world.live() == 2
    world.create()
    assert world.live() == 2
    assert world.copy.renew() == 0.0  # run again, it completes
    assert world.live() == 3


def test_who_has_read_the_book_before_a_switch_cannot_copy_it_after(world: World) -> None:
    world.switch()
    world.age(9_000)
    world.book.meanwhile.append(world.switch)
    world.live()  # reads generation 1, then the switch is acknowledged, then it copies
    assert world.live() == 2


def test_who_has_read_the_book_long_ago_copies_nothing_even_where_the_copy_is_lost(world: World) -> None:
    world.switch()
    run, token, now, *_ = world.copy._look()
    world.book.meanwhile.append(world.switch)
    world.copy._renewed(run, token, now - round(TRUST_SECONDS * 1000))
    assert world.live() == 2


def test_a_late_reader_does_not_bring_back_what_a_loss_took_with_it(world: World) -> None:
    world.switch()
    world.age(9_000)
    world.book.meanwhile += [world.switch, lambda: world.client.delete(world.key)]
    world.live()
    assert world.live() == 2


def test_a_lost_copy_is_taken_from_the_book(world: World) -> None:
    world.switch()
    world.switch()
    world.client.delete(world.key)
    assert world.live() == 2


def test_a_copy_that_another_server_took_is_not_believed_and_the_switch_waits_for_its_end(world: World) -> None:
    world.switch()
    world.client.hset(world.key, "run", OTHER)
    world.create()
    assert world.live() == 2
    waits = world.switch()
    assert TRUST_SECONDS - 2 < waits <= TRUST_SECONDS
    world.age(10_000)
    assert world.switch() == 0.0


def test_a_lake_restored_to_an_earlier_generation_is_the_truth_when_the_copy_has_run_out(
    world: World, tmp_path: Path
) -> None:
    world.switch()
    world.switch()
    (tmp_path / "releases/pointer/000000000002.json").unlink()
    world.age(10_001)
    assert world.live() == 1


def test_two_lakes_on_one_redis_do_not_meet(world: World, tmp_path: Path) -> None:
    world.switch()
    other = World(world.client, CountedBook(tmp_path / "other"), world.root + "/other")
    assert pointer_key(world.root) != other.key
    assert other.live() is None


def test_a_server_that_tells_no_run_id_is_never_believed_and_cannot_fence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pointer_copy, "_READ", pointer_copy._READ.replace("run_id:", "no_such_field:"))
    copy = PointerCopy(world.client, world.book, world.root)
    world.create()
    assert not copy.fences()
    assert [copy.live(), copy.live()] == [LiveGeneration(1, "r0001")] * 2
    assert world.book.asked == 2
    assert not world.client.hexists(world.key, "generation")
    assert world.copy.fences()


def test_after_a_restart_with_its_file_redis_believes_no_copy_of_before(tmp_path: Path, redis_factory: Any) -> None:
    server = redis_factory({"appendonly": "yes", "appendfsync": "always"})
    world = World(server.client(), CountedBook(tmp_path), "lake")
    world.switch()
    world.create()  # by a switch whose copy the crash loses
    server.kill()
    server.restart()
    world = World(server.client(), world.book, "lake")
    assert world.client.hget(world.key, "generation") == b"1"
    assert world.live() == 2


def test_a_replica_that_lagged_and_takes_over_believes_no_copy_and_a_replica_answers_nothing(
    tmp_path: Path, redis_factory: Any
) -> None:
    first, second = (redis_factory({"repl-diskless-sync-delay": "0"}) for _ in range(2))
    world = World(first.client(), CountedBook(tmp_path), "lake")
    world.switch()
    replica = second.client()
    replica.replicaof("127.0.0.1", first.port)
    behind = World(replica, world.book, "lake")
    _until(lambda: replica.hget(world.key, "generation") == b"1")
    with pytest.raises(StackUnavailable, match="read-only replica"):
        behind.live()
    replica.replicaof("NO", "ONE")  # promoted before the next write reached it
    world.switch()
    assert replica.hget(world.key, "generation") == b"1"
    assert behind.live() == 2


def _until(met: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if met():
            return
        import time

        time.sleep(0.005)
    raise AssertionError("it did not come to that")


STEPS = ("switch", "switch", "switch", "old copy back", "killed switch", "read", "restart", "lose", "old copy back", "age", "late reader begins", "late reader ends")  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(STEPS), min_size=3, max_size=25), data=st.data())
def test_whatever_happens_in_whatever_order_no_reader_is_behind_an_acknowledged_switch(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, steps: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("book")
    world = World(redis_server.client(), CountedBook(folder), str(folder))
    acknowledged = 0
    late: list[tuple[bytes, bytes, int, Pointer | None]] = []
    old: dict[bytes, bytes] = {}
    for step in [*steps, "read"]:
        if step == "switch":
            world.switch()  # whatever it waits for, only this server answers here
            pointer = ObjectReleaseBook.live(world.book)
            acknowledged = 0 if pointer is None else pointer.generation
        elif step == "killed switch":
            world.create()
        elif step == "lose":
            world.client.delete(world.key)
        elif step == "restart":  # seen from the process: whatever was copied, or is about to be, was of another one
            if world.client.hexists(world.key, "until"):
                world.client.hset(world.key, "run", OTHER)
            late = [(OTHER.encode(), token, now, pointer) for _, token, now, pointer in late]
            old |= {b"run": OTHER.encode()} if old else {}
        elif step == "old copy back":  # restored from a backup, which means another process
            if old:
                world.client.hset(world.key, mapping={**old, b"run": OTHER.encode()})
        elif step == "age":
            milliseconds = data.draw(st.sampled_from([1_000, 6_000, 11_000]))
            if world.client.hexists(world.key, "until"):
                world.age(milliseconds)
            late = [(run, token, now - milliseconds, pointer) for run, token, now, pointer in late]
        elif step == "late reader begins":
            run, token, now, *_ = world.copy._look()
            late.append((run, token, now, ObjectReleaseBook.live(world.book)))
        elif step == "late reader ends" and late:
            run, token, now, pointer = late.pop()
            if pointer is not None:
                args = [run, now + 10_000, pointer.generation, pointer.release, 10_000, token]
                world.copy._write(keys=[world.key], args=args)
        else:
            assert (world.live() or 0) >= acknowledged
        if world.client.hexists(world.key, "until") and not old:
            old = world.client.hgetall(world.key)
    world.client.delete(world.key)
