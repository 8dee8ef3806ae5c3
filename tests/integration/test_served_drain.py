"""What functions have served reaches the lake once and in few commits, and is on the queue until then."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from inference.predictions.served_drain import ServedDrain
from inference.predictions.served_queue import ServedMessage, ServedSender, messages
from inference.predictions.served_tables import served_table
from stillpoint.errors import CorruptData, StackUnavailable, StillpointError
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.served_rows import SERVED_IDS, names_id
from stillpoint.tombstones import bury
from tests.integration.test_served_log import AT, KEY, prediction
from tests.support.wellness import FEATURES


class Queue:
    """What SQS does of a queue, without a clock: a received message is invisible until `come_back`."""

    exceptions = SimpleNamespace(QueueDoesNotExist=KeyError)

    def __init__(self) -> None:
        self.waiting: list[tuple[str, str, int]] = []
        self.held: dict[str, tuple[str, str, int]] = {}
        self.sent = 0
        self.refuses_deletion = False

    def send(self, text: str) -> None:
        self.sent += 1
        self.waiting.append((f"m{self.sent}", text, 0))

    def get_queue_url(self, **asked: Any) -> Any:
        return {"QueueUrl": asked["QueueName"]}

    def receive_message(self, **_: Any) -> Any:
        taken, self.waiting = self.waiting[:10], self.waiting[10:]
        found = []
        for name, text, receives in taken:
            receipt = f"{name} {receives + 1}"
            self.held[receipt] = (name, text, receives + 1)
            attributes = {"ApproximateReceiveCount": str(receives + 1)}
            found.append({"MessageId": name, "ReceiptHandle": receipt, "Body": text, "Attributes": attributes})
        return {"Messages": found} if found else {}

    def delete_message_batch(self, **asked: Any) -> Any:
        if self.refuses_deletion:
            raise StackUnavailable("the queue is away")
        for one in asked["Entries"]:
            self.held.pop(one["ReceiptHandle"], None)

    def come_back(self) -> None:
        self.waiting += self.held.values()
        self.held.clear()


class World:
    def __init__(self, folder: Path) -> None:
        self.lake = Lake(LocalObjects(folder), FEATURES)
        self.queue = Queue()
        self.written: list[pa.Table] = []
        self.refused: list[StillpointError] = []
        self.sender = ServedSender(self.queue.send, write=self.written.append, refused=self.refused.append)

    def drain(self) -> ServedDrain:
        return ServedDrain(self.queue, "served", self.lake, clock=lambda: AT, erasure_key=KEY)  # type: ignore[arg-type]

    def ids(self) -> list[str]:
        return sorted(Lake(self.lake.objects, FEATURES).read("served")["recommendation_id"].to_pylist())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def names(*numbers: int) -> list[str]:
    return sorted(f"recommendation{number}" for number in numbers)


def test_messages_of_many_invocations_are_one_commit_that_names_its_ids(world: World) -> None:
    for number in range(35):
        world.sender.send([prediction(number)])
    assert world.drain().step(gather_seconds=0.5) == 35
    assert world.ids() == names(*range(35))
    (commit,) = world.lake.commits()
    assert names_id(str(commit.properties[SERVED_IDS]), "recommendation7")
    assert (world.queue.waiting, world.queue.held) == ([], {})


def test_rows_arrive_as_a_worker_would_have_written_them(world: World) -> None:
    made = [prediction(number) for number in range(3)]
    world.sender.send(made)
    world.drain().step(gather_seconds=0)
    expected = served_table(made, refused=world.refused.append).to_pylist()
    assert sorted(world.lake.read("served").to_pylist(), key=str) == sorted(expected, key=str)


def test_killed_after_the_commit_the_next_worker_recognises_what_comes_back(world: World) -> None:
    world.sender.send([prediction(1)])
    world.queue.refuses_deletion = True
    drain = world.drain()
    with pytest.raises(StackUnavailable):
        drain.step(gather_seconds=0)
    world.queue.refuses_deletion = False
    world.queue.come_back()
    world.sender.send([prediction(2)])
    assert world.drain().step(gather_seconds=0.2) == 2
    assert world.ids() == names(1, 2)
    assert world.queue.held == {}


def test_a_lake_that_is_away_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sender.send([prediction(1)])
    drain = world.drain()

    def away(*_: object) -> None:
        raise StackUnavailable("the lake is away")

    with monkeypatch.context() as patch:
        patch.setattr(world.lake.objects, "create", away)
        with pytest.raises(StackUnavailable):
            drain.step(gather_seconds=0)
    world.queue.come_back()
    assert drain.step(gather_seconds=0) == 1
    assert world.ids() == names(1)


def test_the_same_message_twice_is_written_once(world: World) -> None:
    world.sender.send([prediction(1)])
    world.queue.waiting *= 2
    (_, text, _) = world.queue.waiting[0]
    drain = world.drain()
    drain.step(gather_seconds=0)
    world.queue.send(text)  # by a sender that had no answer to its first
    drain.step(gather_seconds=0)
    assert world.ids() == names(1)


def test_rows_of_a_user_who_was_erased_meanwhile_are_dropped(world: World) -> None:
    world.sender.send([prediction(1), prediction(2)])
    bury(world.lake.objects, KEY, ["u1"], AT + timedelta(seconds=1))
    world.drain().step(gather_seconds=0)
    assert world.ids() == names(2)
    world.sender.send([prediction(1)])
    assert world.drain().step(gather_seconds=0) == 1
    assert world.ids() == names(2)


def test_what_cannot_be_read_stays_on_the_queue_and_keeps_nobody_back(world: World) -> None:
    later = (
        ServedMessage(id="a" * 32, rows=1, data="")
        .model_dump_json()
        .replace('"schema_version":1', '"schema_version":2')
    )
    for text in ("torn", later):
        world.queue.send(text)
    world.sender.send([prediction(1)])
    assert world.drain().step(gather_seconds=0) == 1
    assert world.ids() == names(1)
    assert sorted(text for _, text, _ in world.queue.held.values()) == sorted(["torn", later])


@pytest.mark.parametrize(("rows", "limit"), [(1, 10_000), (40, 10_000), (40, 6_000)])
def test_rows_are_split_into_messages_that_fit_and_one_that_fits_nowhere_is_written_at_once(
    rows: int, limit: int
) -> None:
    table = served_table([prediction(number) for number in range(rows)], refused=lambda error: None)
    found = list(messages(table, limit=limit))
    parts = [one.table() for one in found if isinstance(one, ServedMessage)]
    assert pa.concat_tables(parts).equals(table)
    assert all(len(one.model_dump_json()) <= limit for one in found if isinstance(one, ServedMessage))
    alone = list(messages(table.slice(0, 1), limit=300))
    assert isinstance(alone[0], pa.Table)


def test_a_message_that_does_not_hold_what_it_says_is_refused() -> None:
    table = served_table([prediction(1), prediction(2)], refused=lambda error: None)
    (message,) = messages(table)
    assert isinstance(message, ServedMessage)
    with pytest.raises(CorruptData, match="holds 2 rows; expected 3"):
        message.model_copy(update={"rows": 3}).table()
    with pytest.raises(CorruptData, match="cannot be unpacked"):
        message.model_copy(update={"data": message.data[: len(message.data) // 2]}).table()


def test_a_prediction_that_cannot_be_decoded_is_told_and_the_others_are_sent(world: World) -> None:
    world.sender.send([prediction(1, corrupt=True), prediction(2)])
    assert len(world.refused) == 1
    world.drain().step(gather_seconds=0)
    assert world.ids() == names(2)
