"""A warm function asks the object store less than once per hundred predictions."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from fsspec.implementations.local import LocalFileSystem

from inference.lambda_handler import build
from stillpoint.events.types import EventType
from stillpoint.lake import app_lake
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind, PredictionRequest, request_id
from stillpoint.releases.pointer_copy import PointerCopy
from stillpoint.settings import Settings
from tests.support.hand_made import hand_made, opted_in
from tests.support.wellness import FEATURES

SECONDS = 60
FUNCTIONS = 4
"""Environments that 200 invocations of 20 ms a second keep busy."""
ALLOWED = 200 * SECONDS // 100
OPENED = 3
"""Requests of a Parquet file that is opened: its size, its footer, its columns."""


class CountedFiles(LocalFileSystem):  # type: ignore[misc]
    cachable = False
    counts: Counter[str]

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        self.counts["open"] += OPENED
        return super()._open(path, *args, **options)

    def ls(self, path: str, *args: Any, **options: Any) -> Any:
        self.counts["ls"] += 1
        return super().ls(path, *args, **options)


class CountedObjects(LocalObjects):
    """Counts requests, those of Arrow's own filesystem too."""

    def __init__(self, folder: Path, counts: Counter[str]) -> None:
        super().__init__(folder)
        self.counts = counts

    def get(self, key: str) -> bytes:
        self.counts["get"] += 1
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self.counts["put"] += 1
        super().put(key, data)

    def create(self, key: str, data: bytes) -> None:
        self.counts["create"] += 1
        super().create(key, data)

    def list(self, prefix: str) -> Iterator[str]:
        self.counts["list"] += 1
        return super().list(prefix)

    def arrow(self) -> tuple[pafs.FileSystem, str]:
        files = CountedFiles()
        files.counts = self.counts
        return pafs.PyFileSystem(pafs.FSSpecHandler(files)), self.root


class Sqs:
    """Takes what a function sends."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()

    def get_queue_url(self, **asked: Any) -> Any:
        return {"QueueUrl": asked["QueueName"]}

    def get_queue_attributes(self, **_: Any) -> Any:
        return {"Attributes": {}}

    def send_message(self, **asked: Any) -> None:
        self.sent[asked["QueueUrl"]] += 1


@pytest.mark.parametrize("rate", [5, pytest.param(200, marks=pytest.mark.soak)])
def test_a_minute_of_invocations_asks_less_than_once_per_hundred_predictions_at_200_a_second(
    tmp_path: Path, redis_factory: Any, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    """What is asked is asked by the clock, not by the invocation: the minute at 5 a second may cost no more than one at 200."""
    connection = redis_factory().connection_string
    counts: Counter[str] = Counter()
    objects = CountedObjects(tmp_path / "lake", counts)
    redis = dict.fromkeys(("redis_green", "redis_blue", "redis_serving"), connection)
    settings = Settings(
        _env_file=None, home=tmp_path, lake=objects.root, aws_endpoint_url="http://127.0.0.1:1", **redis
    )  # type: ignore[arg-type]
    plain = Lake(LocalObjects(objects.root), FEATURES)
    made = hand_made(plain, settings, project="stillpoint_counted", count=20)
    opted_in(plain, {"u1": True})
    made.point()
    sqs = Sqs()
    monkeypatch.setattr(app_lake, "open_objects", lambda root, aws: objects)
    monkeypatch.setattr("boto3.client", lambda service, **_: sqs)
    now = datetime.now(UTC).replace(microsecond=0)
    began = now
    functions = [build(settings, lambda: now) for _ in range(FUNCTIONS)]
    copy = PointerCopy(made.client, made.book, objects.root)
    step = timedelta(seconds=1) / rate
    for number in range(rate * SECONDS):
        kind = Kind.NEXT if number % 5 == 0 else Kind.TODAY
        answer = functions[number % FUNCTIONS](event(f"u{number % 20}", kind, number, now))
        assert answer == {"batchItemFailures": []}
        now += step
        for name in ("until", "since", "asked"):  # as old as the simulated clock says
            made.client.hincrby(copy.key, name, -round(step.total_seconds() * 1000))
        if number == rate * SECONDS // 2:
            warm = Counter(counts)
    assert now - began == timedelta(seconds=SECONDS)
    assert sqs.sent[settings.served_queue] == rate * SECONDS
    assert (counts - warm).total() <= ALLOWED // 2, counts - warm
    assert counts["put"] == counts["create"] == 0
    assert counts.total() <= ALLOWED, counts


def event(user: str, kind: Kind, number: int, at: datetime) -> dict[str, Any]:
    asked = PredictionRequest(
        request_id=request_id(f"{user}-{number}", kind),
        user_id=user,
        kind=kind,
        event_id=f"{user}-{number}",
        event_type=EventType.CONTENT_COMPLETE,
        event_timestamp=at,
        arrived_at=at,
        enqueued_at=at,
    )
    attributes = {"ApproximateReceiveCount": "1"}
    return {
        "Records": [
            {"messageId": "m", "receiptHandle": "h", "body": asked.to_bytes().decode(), "attributes": attributes}
        ]
    }
