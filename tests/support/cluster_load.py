"""Work that goes on while a cluster changes: every use of Redis that the product has, each checked for loss and doubles."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from inference.live.loaded_release import load_live
from inference.predictions.stored_recommendations import Recommendations, StoreResult
from inference.worker.jobs import Jobs, QueuedMessage
from inference.worker.push_consent import opted_in as read_opted_in
from ingestion.state_store import Change, StateStore
from stillpoint.errors import StackUnavailable
from stillpoint.events.types import EventType
from stillpoint.finished import KEPT, add_finished
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind, PredictionRequest, StoredRecommendation, request_id
from stillpoint.outages import outage
from stillpoint.settings import Settings
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter, WriteResult
from stillpoint.stores.values.types import ValueType
from tests.support.hand_made import hand_made, opted_in
from tests.support.wellness import FEATURES

RECOVERY_SECONDS = 30.0
USERS = [f"u{n}" for n in range(60)]
LAYOUT = ViewLayout("v", (Column("user_id", ValueType.STRING),), (Column("n", ValueType.INT64),))
FIRST_US = 10**15
FAR_US = 4 * 10**15
AT = datetime(2026, 3, 1, tzinfo=UTC)
REQUESTED = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""After the hand-made release."""


class Work:
    """One use of Redis, in steps that reach every shard. A step that met an outage is done again; any other error counts."""

    def __init__(self, step: Callable[[int], None]) -> None:
        self._step = step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._progress = threading.Condition()
        self.done = 0
        self.outages = 0
        self.failure: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._step(self.done)
            except Exception as error:  # noqa: BLE001  whatever it is, it is told by `advance`
                if outage(error) is None:
                    with self._progress:
                        self.failure = error
                        self._progress.notify_all()
                    return
                self.outages += 1
                self._stop.wait(0.1)
                continue
            with self._progress:
                self.done += 1
                self._progress.notify_all()

    def advance(self, steps: int, *, seconds: float) -> None:
        """Wait until so many more steps have been done."""
        with self._progress:
            goal = self.done + steps
            self._progress.wait_for(lambda: self.done >= goal or self.failure is not None, seconds)
            if self.failure is not None:
                raise self.failure
            assert self.done >= goal, (
                f"{self._step} did only {steps - goal + self.done} of {steps} steps in {seconds} s"
            )

    def end(self) -> int:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure
        return self.done


class Features:
    """Writes features and reads them back: what was written is read at once, whatever happens between."""

    def __init__(self, client: Any, project: str) -> None:
        self._writer = OnlineWriter(client, project)
        self._reader = OnlineReader(client, ReadPlan(project, (LAYOUT,)))

    def step(self, number: int) -> None:
        stamp = pa.array([FIRST_US + number] * len(USERS), pa.timestamp("us", tz="UTC"))
        rows = pa.table({"user_id": USERS, "event_timestamp": stamp, "n": pa.array([number] * len(USERS))})
        assert self._writer.write(LAYOUT, rows) == WriteResult(len(USERS), 0)
        self.check(number)

    def check(self, number: int) -> None:
        found = self._reader.read(["v"], {"user_id": USERS}, now_us=FIRST_US).values("n")
        assert found == [number] * len(USERS)


class Lists:
    """Stores recommendations, finished contents and push limits, and reads them back."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self.recommendations = Recommendations(client)

    def step(self, number: int) -> None:
        users = [f"{self._name}{user}" for user in USERS[:20]]
        results = self.recommendations.put_all([self._one(user, number) for user in users])
        assert set(results) <= {
            StoreResult.STORED,
            StoreResult.OLDER,
        }  # OLDER: this very one, stored by a try that was cut off
        add_finished(self._client, [(user, f"c{number % KEPT}", number) for user in users])
        finished = self.recommendations.finished(users)
        assert {len(one) for one in finished} == {min(number + 1, KEPT)}
        for user in users[:6]:
            (held,) = self.recommendations.get(user, [Kind.TODAY], "r1")
            assert held is not None
            assert held.event_timestamp == AT + timedelta(seconds=number)
            assert self.recommendations.may_push(f"{user}-{number}", "p1")
            assert not self.recommendations.may_push(f"{user}-{number}", "p2")

    def _one(self, user: str, number: int) -> StoredRecommendation:
        at = AT + timedelta(seconds=number)
        return StoredRecommendation.model_validate(
            {
                "user_id": user,
                "kind": Kind.TODAY,
                "release": "r1",
                "generation": 1,
                "mapping_version": 1,
                "recommendation_id": f"{user}-{number}",
                "request_id": f"{number:032d}",
                "event_timestamp": at,
                "created_at": at,
                "trigger": None,
                "items": (),
            }
        )


class States:
    """Counts in the stream's states, one batch a step: a batch that was lost or done twice would show in the sums."""

    def __init__(self, connect: Callable[[], Any], query: str) -> None:
        self._connect = connect
        self._query = query
        self._client: Any = None

    def step(self, number: int) -> None:
        if self._client is None:
            self._client = self._connect()
        try:
            self._batch(StateStore(self._client, self._query), number)
        except Exception:
            self._client = None  # a run that failed is started again with clients of its own
            raise

    def _batch(self, states: StateStore, number: int) -> None:
        newest = number - 1 if number else None
        if newest is not None:
            marked = states.marked()
            assert marked is not None
            assert marked >= newest
        instance = states.instance()
        held = states.load(USERS, number, instance=instance)
        assert set(held.values()) == {b"%d" % number if number else b""}
        changes = {user: Change(before, b"%d" % (number + 1), FAR_US) for user, before in held.items()}
        states.save(changes, batch=number, epoch=1)
        states.require(instance)
        states.mark(number, after=newest)
        states.require(instance)


def seconds_until_all_work(works: list[Work], *, steps: int = 3) -> float:
    """Return how long it took until each did so many more steps; fails after `RECOVERY_SECONDS`."""
    began = time.monotonic()
    for work in works:
        work.advance(steps, seconds=max(0.1, RECOVERY_SECONDS - (time.monotonic() - began)))
    return time.monotonic() - began


class Requests:
    """Works off prediction requests, as a worker does: an outage puts them off, and none of them ever fails."""

    def __init__(self, connection: str, folder: Path) -> None:
        lake = Lake(LocalObjects(folder / "lake"), FEATURES)
        opted_in(lake, {f"u{n}": True for n in range(6)})
        redis = dict.fromkeys(("redis_green", "redis_blue", "redis_serving"), connection)
        settings = Settings.model_validate({"home": folder, "lake": lake.root, **redis})
        made = hand_made(lake, settings, project="stillpoint_handmade")
        made.point()
        self.recommendations = Recommendations(made.client)
        self._loaded = load_live(made.book, lake, settings, now=REQUESTED)
        self.pushes: Counter[str] = Counter()
        self._jobs = Jobs(
            self.recommendations,
            send_push=lambda push: self.pushes.update([push.push_id]),
            may_receive=read_opted_in(lake).__contains__,
            clock=lambda: REQUESTED,
            still_live=lambda loaded: True,
            erased=lambda moments: [False for _ in moments],
        )

    def step(self, number: int) -> None:
        at = REQUESTED - timedelta(seconds=1) + timedelta(milliseconds=number)
        requests = [
            PredictionRequest(
                request_id=request_id(f"{user}-{number}", Kind.TODAY),
                user_id=user,
                kind=Kind.TODAY,
                event_id=f"{user}-{number}",
                event_type=EventType.SEARCH,
                event_timestamp=at,
                arrived_at=at,
                enqueued_at=at,
            )
            for user in (f"u{n}" for n in range(6))
        ]
        report = self._jobs.run(self._loaded, [QueuedMessage(r.request_id, r.to_bytes().decode()) for r in requests])
        assert not report.failed
        if report.put_off:
            raise StackUnavailable(next(iter(report.put_off.values())))
        assert report.done == len(requests)
        for request in requests:
            (held,) = self.recommendations.get(request.user_id, [Kind.TODAY], "r0001")
            assert held is not None
            assert held.request_id == request.request_id
