"""A console over a small world: two releases, users with events and lists, a quarantine, a running service."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pyarrow as pa
import uvicorn

from console.desk import Desk
from console.server import application
from console.sources import Sources
from inference.predictions.stored_recommendations import Recommendations
from release.check import check
from release.checks.coverage import Coverage
from release.checks.fill_marker import FillMarkerCheck
from release.prepare import prepare
from release.switch import switch
from stillpoint.clock import system_clock
from stillpoint.events.quarantine import quarantine_rejected
from stillpoint.events.types import USER_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.process import free_port
from stillpoint.messages import Item, Kind, StoredRecommendation
from stillpoint.settings import Settings
from tests.support.release_world import CONTENTS, USERS, World, context_for
from tests.support.wellness import EVENT_COLUMNS, FEATURES

CHECKS = (FillMarkerCheck(), Coverage())


def settings_of(folder, redis, aws, unique, **more) -> Settings:
    """Return settings of the test's servers with a lake in a folder."""
    return Settings(
        _env_file=None,
        home=folder / "home",
        lake=str(folder / "lake"),
        aws_endpoint_url=aws,
        sagemaker_endpoint_url=None,
        redis_green=redis,
        redis_blue=redis,
        redis_sandbox=redis,
        redis_serving=redis,
        redis_state=redis,
        event_stream=f"{unique}-events",
        event_shards=1,
        prediction_queue=f"{unique}-predictions",
        prediction_dead_letters=f"{unique}-predictions-dead",
        push_queue=f"{unique}-pushes",
        served_queue=f"{unique}-served",
        mlflow_tracking_uri=f"sqlite:///{folder}/mlflow.db",
        **more,
    )


def fill(settings: Settings) -> None:
    """Write the world: r0001 was live, r0002 is; the first user searched, and has a list."""
    lake = Lake(LocalObjects(settings.lake), FEATURES)
    world = World(lake)
    world.fill()
    world.catalogue()
    for version in (1, 2):
        world.mapping(version)
    context = context_for(settings, lake)
    for version in (1, 2):
        release = prepare(context, world.wanted(version))
        check(context, release.id, checks=list(CHECKS))
        switch(context, release.id, why=f"mapping {version}")
    now = system_clock()
    users = [
        {"user_id": one, "signed_up_at": now, "gender": None, "locale": "fr-FR", "subscribed": True, "push_opt_in": True,
         "updated_at": now}
        for one in USERS
    ]  # fmt: skip
    _commit(lake, "users", pa.Table.from_pylist(users, schema=USER_COLUMNS), now)
    searched = now - timedelta(minutes=1)
    event = dict.fromkeys(EVENT_COLUMNS.names) | {
        "event_id": "e1", "user_id": "u0", "type": "search", "event_timestamp": searched, "arrived_at": searched,
        "platform": "ios", "query": "<b>deep sleep</b>", "verdict": "on_time", "shard": "s", "sequence": "1",
    }  # fmt: skip
    lake.commit(
        Commit(
            writer="stream-world",
            sequence=1,
            at=now,
            files=(lake.write("events", now.date(), "e", pa.Table.from_pylist([event], schema=EVENT_COLUMNS)),),
            properties={"verdict_on_time": 1, "newest_arrival_us": int(searched.timestamp() * 1e6)},
        )
    )
    quarantine_rejected(lake, [(b'{"type": "<script>alert(1)</script>"}', "type", "expected a type")], at=now)
    store(settings, "u0")


def store(settings: Settings, user: str) -> None:
    """Store a list for a user under the live release."""
    now = system_clock()
    items = tuple(Item(content_id=one, title=f"title {one}", category="sleep", score=1.0) for one in CONTENTS[:5])
    made = StoredRecommendation(
        recommendation_id="0" * 32, request_id="r", user_id=user, kind=Kind.TODAY, release="r0002", generation=2,
        mapping_version=2, event_timestamp=now, created_at=now, trigger=None, items=items,
    )  # fmt: skip
    Recommendations(Sources(settings).serving).put(made)


def _commit(lake, dataset, table, at) -> None:
    file = lake.write(dataset, at.date(), f"world-{dataset}", table)
    lake.commit(Commit(writer=f"world-{dataset}", sequence=1, at=at, files=(file,)))


class Console:
    """A console that runs in this process; `turn_to` shows it another world."""

    def __init__(self, settings: Settings) -> None:
        self.desk = Desk(Sources(settings))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            application(self.desk, tokens=None), host="127.0.0.1", port=self.port, log_level="warning", ws="auto"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the console ended while it started"
            time.sleep(0.02)

    @contextmanager
    def turn_to(self, settings: Settings) -> Iterator[None]:
        """Show another world for as long as the block runs."""
        before = dict(vars(self.desk))
        self.desk.__init__(Sources(settings))
        try:
            yield
        finally:
            vars(self.desk).update(before)

    def forget(self) -> None:
        """Let every reading be made anew."""
        self.desk.readings.forget("")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


def bury(settings: Settings, sqs) -> None:
    """Put a message into the dead letters."""
    url = sqs.get_queue_url(QueueName=settings.prediction_dead_letters)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"a": 1}))
