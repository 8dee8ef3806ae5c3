"""Every release book keeps records unchanged, lets one switcher win, and refuses a damaged pointer."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stillpoint.errors import AlreadyExists, CorruptData, ReleaseRefused, StackUnavailable
from stillpoint.lake.objects import LocalObjects, Objects
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import ALLOWED, Announcement, Intent, Move, Release, Route, State

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SHA = "a" * 64
ROUTE = Route(model_uri=f"models/{SHA}.tar.gz", sha256=SHA)


def release(release_id: str = "r0001", **changes: Any) -> Release:
    values: dict[str, Any] = {
        "registry": f"releases/{release_id}/registry.pb",
        "id": release_id,
        "colour": Colour.GREEN,
        "project": "stillpoint_green",
        "connection": "127.0.0.1:6390",
        "registry_sha256": SHA,
        "definitions_sha256": SHA,
        "read_plan": f"releases/{release_id}/read_plan.json",
        "read_plan_sha256": SHA,
        "feature_service": "ranker_v1",
        "encoder_sha256": SHA,
        "mapping_version": 1,
        "routes": {Kind.TODAY: ROUTE},
        "snapshot_id": "s1",
        "metrics": {"recall_at_10": 0.5},
        "created_at": NOW,
    }
    return Release(**{**values, **changes})


@pytest.fixture(params=["lake", "s3_lake"])
def store(request: pytest.FixtureRequest) -> Objects:
    lake: Lake = request.getfixturevalue(request.param)
    return lake.objects


@pytest.fixture
def book(store: Objects) -> ObjectReleaseBook:
    return ObjectReleaseBook(store)


def enter(book: ObjectReleaseBook, *states: State) -> None:
    for number, state in enumerate(states):
        book.enter("r0001", state, at=NOW + timedelta(seconds=number), by="ann", why="test")


def test_a_record_is_returned_as_it_was_written_and_never_changed(book: ObjectReleaseBook) -> None:
    book.record(release())
    book.record(release())
    with pytest.raises(AlreadyExists, match="release r0001 is recorded already, and differs"):
        book.record(release(mapping_version=2))
    assert book.get("r0001") == release()


def test_an_unknown_release_is_refused_and_the_known_are_named(book: ObjectReleaseBook) -> None:
    with pytest.raises(ReleaseRefused, match="there is no release 'r0009'; recorded are: none"):
        book.get("r0009")
    book.record(release())
    with pytest.raises(ReleaseRefused, match="recorded are: r0001"):
        book.get("r0009")


def test_releases_are_listed_in_the_order_of_their_numbers(book: ObjectReleaseBook) -> None:
    for name in ("r10000", "r0002", "r9999"):
        book.record(release(name))
    assert book.releases() == ["r0002", "r9999", "r10000"]


def intent_of(release_id: str) -> Intent:
    return Intent(
        id=release_id, colour=Colour.GREEN, mapping_version=1, routes={Kind.TODAY: ROUTE}, feature_service="ranker_v1",
        at=NOW, by="ann", why="first",
    )  # fmt: skip


def test_an_intent_claims_its_id_once(book: ObjectReleaseBook) -> None:
    intent = intent_of("r0001")
    book.intend(intent)
    book.intend(intent)
    with pytest.raises(AlreadyExists):
        book.intend(intent.model_copy(update={"by": "bob"}))
    assert book.intents() == [intent]
    assert intent.wants_the_same(intent.model_copy(update={"by": "bob", "id": "r0002"}))
    assert not intent.wants_the_same(intent.model_copy(update={"mapping_version": 2}))


def test_history_says_who_when_why_and_with_which_report(book: ObjectReleaseBook) -> None:
    enter(book, State.PREPARING, State.PREPARED)
    step = book.enter("r0001", State.CHECKED, at=NOW, by="ann", why="green", report="reports/x.json")
    assert [each.state for each in book.transitions("r0001")] == [State.PREPARING, State.PREPARED, State.CHECKED]
    assert book.transitions("r0001")[-1] == step
    assert (step.number, step.by, step.report) == (3, "ann", "reports/x.json")


PATHS: dict[State | None, tuple[State, ...]] = {
    None: (),
    State.PREPARING: (State.PREPARING,),
    State.PREPARED: (State.PREPARING, State.PREPARED),
    State.CHECKED: (State.PREPARING, State.PREPARED, State.CHECKED),
    State.LIVE: (State.PREPARING, State.PREPARED, State.CHECKED, State.LIVE),
    State.ROLLBACK_TARGET: (State.PREPARING, State.PREPARED, State.CHECKED, State.LIVE, State.ROLLBACK_TARGET),
    State.RETIRED: (State.PREPARING, State.PREPARED, State.RETIRED),
    State.FAILED: (State.PREPARING, State.FAILED),
}


class CountsReads:
    """Objects that remember which keys were read."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return self._objects.get(key)


def test_histories_hold_every_release_and_read_what_never_changes_once(store: Objects, book: ObjectReleaseBook) -> None:
    for name in ("r0002", "r10000", "r0001"):
        book.intend(intent_of(name))
    enter(book, State.PREPARING, State.PREPARED)
    counted = CountsReads(store)
    other = ObjectReleaseBook(counted)
    for _ in range(2):
        found = {one.intent.id: one.state for one in other.histories()}
        assert list(found.items()) == [("r0001", State.PREPARED), ("r0002", None), ("r10000", None)]
        assert other.state("r0001") is State.PREPARED
    assert len(counted.read) == 5

    enter(book, State.CHECKED)
    assert [one.state for one in other.histories()] == [State.CHECKED, None, None]
    assert counted.read[5:] == ["releases/r0001/states/000003.json"]


@pytest.mark.parametrize("present", list(PATHS), ids=lambda state: str(state or "new"))
def test_only_the_allowed_states_follow(tmp_path: Any, present: State | None) -> None:
    for number, state in enumerate(State):
        book = ObjectReleaseBook(LocalObjects(tmp_path / str(number)))
        enter(book, *PATHS[present])
        if state in ALLOWED[present]:
            assert book.enter("r0001", state, at=NOW, by="ann", why="test").state is state
        else:
            with pytest.raises(ReleaseRefused, match=f"release r0001 is {present or 'new'} and cannot become {state}"):
                book.enter("r0001", state, at=NOW, by="ann", why="test")
            assert book.state("r0001") == present


def test_generations_follow_each_other_and_the_highest_is_live(book: ObjectReleaseBook) -> None:
    assert book.live() is None
    first = book.point("r0001", after=None, at=NOW, by="ann", why="first")
    second = book.point("r0002", after=first, at=NOW, by="bob", why="better")
    back = book.point("r0001", after=second, at=NOW, by="bob", why="worse", move=Move.ROLLBACK)
    assert book.live() == back
    assert [(each.generation, each.release, each.previous) for each in book.pointers()] == [
        (1, "r0001", None),
        (2, "r0002", "r0001"),
        (3, "r0001", "r0002"),
    ]


def test_of_sixteen_threads_that_switch_at_once_exactly_one_wins_and_the_others_are_told(
    book: ObjectReleaseBook,
) -> None:
    first = book.point("r0001", after=None, at=NOW, by="ann", why="first")
    together = threading.Barrier(16)

    def switch(number: int) -> str:
        together.wait()
        try:
            return book.point(f"r{number:04d}", after=first, at=NOW, by=f"switcher {number}", why="race").release
        except ReleaseRefused as refused:
            return str(refused)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(switch, range(2, 18)))
    winner = book.live()
    assert winner is not None
    assert answers.count(winner.release) == 1
    told = f"generation 2 was created first by {winner.by} and points at {winner.release}; nothing was changed"
    assert sum(told in answer for answer in answers) == 15


SWITCHER = """
import sys
from stillpoint.clock import system_clock
from stillpoint.errors import ReleaseRefused
from stillpoint.lake.objects import open_objects
from stillpoint.releases.book import ObjectReleaseBook
root, endpoint, number = sys.argv[1:]
access = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
book = ObjectReleaseBook(open_objects(root, access))
first = book.pointers()[0]
print("ready", flush=True)
sys.stdin.readline()
try:
    book.point(f"r{int(number):04d}", after=first, at=system_clock(), by=f"process {number}", why="race")
    print("won")
except ReleaseRefused as refused:
    print(refused)
"""


def test_of_four_processes_that_switch_at_once_exactly_one_wins(book: ObjectReleaseBook, aws: Any) -> None:
    book.point("r0001", after=None, at=NOW, by="ann", why="first")
    switchers = [
        subprocess.Popen(
            [sys.executable, "-c", SWITCHER, book.objects.root, aws.endpoint_url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2, 6)
    ]
    for switcher in switchers:
        assert switcher.stdout is not None
        assert switcher.stdout.readline() == "ready\n"
    answers = [switcher.communicate("go\n")[0].strip() for switcher in switchers]
    assert answers.count("won") == 1
    assert sum("generation 2 was created first by process" in answer for answer in answers) == 3
    assert len(book.pointers()) == 2


class LosesAnswers:
    """A store whose next creations succeed, and whose answers are lost, so that the client retries."""

    def __init__(self, objects: Objects, losses: int) -> None:
        self._objects = objects
        self._losses = losses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def create(self, key: str, data: bytes) -> None:
        self._objects.create(key, data)
        if self._losses:
            self._losses -= 1
            self.create(key, data)  # what an SDK's retry does


def test_a_put_retried_after_a_lost_answer_knows_that_it_won(store: Objects) -> None:
    book = ObjectReleaseBook(LosesAnswers(store, 3))  # type: ignore[arg-type]
    book.record(release())
    book.enter("r0001", State.PREPARING, at=NOW, by="ann", why="test")
    pointer = book.point("r0001", after=None, at=NOW, by="ann", why="first")
    assert ObjectReleaseBook(store).live() == pointer
    assert len(book.transitions("r0001")) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b'{"generation": 2}', b"\xff\xfe"])
def test_a_damaged_pointer_is_refused_and_nothing_older_is_believed(book: ObjectReleaseBook, damage: bytes) -> None:
    book.point("r0001", after=None, at=NOW, by="ann", why="first")
    book.objects.put("releases/pointer/000000000002.json", damage)
    with pytest.raises(CorruptData, match=r"releases/pointer/000000000002\.json is not a valid pointer"):
        book.live()


def test_a_pointer_under_the_key_of_another_generation_is_refused(book: ObjectReleaseBook) -> None:
    book.point("r0001", after=None, at=NOW, by="ann", why="first")
    book.objects.put("releases/pointer/000000000009.json", book.objects.get("releases/pointer/000000000001.json"))
    with pytest.raises(CorruptData, match=r"000000000009\.json says that it is generation 1"):
        book.live()


def test_an_announcement_is_seen_until_it_is_withdrawn(book: ObjectReleaseBook) -> None:
    assert book.announced() is None
    announcement = Announcement(generation=2, release="r0002", at=NOW)
    book.announce(announcement)
    assert book.announced() == announcement
    book.withdraw()
    assert book.announced() is None


def test_a_store_that_does_not_answer_is_no_empty_book(book: ObjectReleaseBook) -> None:
    class Down(LosesAnswers):
        def list(self, prefix: str) -> Iterator[str]:
            raise StackUnavailable("S3 does not answer")

    with pytest.raises(StackUnavailable):
        ObjectReleaseBook(Down(book.objects, 0)).live()  # type: ignore[arg-type]
