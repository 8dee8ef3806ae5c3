"""The consumer in docs/push-consumer.md, run as it stands there, delivers each push once, in time, to those who want it."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stillpoint.local.aws import AwsServer
from stillpoint.local.provision import provision
from stillpoint.messages import Channel, Push
from stillpoint.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "push-consumer.md"


def push(user: str, *, push_id: str = "", life: timedelta = timedelta(minutes=30)) -> Push:
    now = datetime.now(UTC)
    return Push(
        push_id=push_id or f"id-{user}",
        user_id=user,
        channel=Channel.PUSH,
        content_id="c1",
        reason="you finished a session",
        recommendation_id=f"id-{user}",
        release="r0001",
        created_at=now,
        expires_at=now + life,
    )


class Consumer:
    def __init__(self, settings: Settings, folder: Path) -> None:
        (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        (folder / "consumer.py").write_text(program)
        environment = os.environ | {
            "AWS_ENDPOINT_URL": settings.aws_endpoint_url or "",
            "AWS_DEFAULT_REGION": settings.aws_region,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "STILLPOINT_PUSH_QUEUE": settings.push_queue,
            "OPTED_OUT": "u9",
        }
        command = [sys.executable, str(folder / "consumer.py"), str(folder / "seen.db")]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
        self.delivered: list[str] = []
        self.problems: list[str] = []
        self._readers = [
            threading.Thread(target=lambda: self.delivered.extend(iter(self.process.stdout.readline, ""))),  # type: ignore[union-attr]
            threading.Thread(target=lambda: self.problems.extend(iter(self.process.stderr.readline, ""))),  # type: ignore[union-attr]
        ]
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        for reader in self._readers:
            reader.join()


@pytest.fixture
def queue(settings: Settings, aws: AwsServer) -> tuple[Any, str]:
    provision(settings)
    sqs: Any = aws.client("sqs")
    return sqs, sqs.get_queue_url(QueueName=settings.push_queue)["QueueUrl"]


@pytest.fixture
def consumers(settings: Settings, tmp_path: Path) -> Iterator[Any]:
    started: list[Consumer] = []

    def start() -> Consumer:
        started.append(Consumer(settings, tmp_path))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop()


def left(sqs: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def until_left(sqs: Any, url: str, count: int) -> None:
    deadline = time.monotonic() + 20
    while left(sqs, url) > count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_push_is_delivered_once_in_time_and_only_to_who_wants_it(queue: tuple[Any, str], consumers: Any) -> None:
    sqs, url = queue
    twice = push("u1")
    for one in (twice, push("u2"), twice, push("u3", life=timedelta(seconds=-1)), push("u9")):
        sqs.send_message(QueueUrl=url, MessageBody=one.to_bytes().decode())
    consumer = consumers()
    until_left(sqs, url, 0)
    consumer.stop()
    assert sorted(consumer.delivered) == ["u1 push c1\n", "u2 push c1\n"]
    assert (consumer.process.returncode, consumer.problems) == (0, [])
    sqs.send_message(QueueUrl=url, MessageBody=twice.to_bytes().decode())  # a copy that comes after a restart
    again = consumers()
    until_left(sqs, url, 0)
    again.stop()
    assert again.delivered == []


def test_a_push_of_a_later_version_is_left_and_named(queue: tuple[Any, str], consumers: Any) -> None:
    sqs, url = queue
    later = push("u1").to_bytes().decode().replace('"schema_version":1', '"schema_version":2')
    for body in (later, push("u2").to_bytes().decode()):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    consumer = consumers()
    until_left(sqs, url, 1)
    time.sleep(0.3)
    consumer.stop()
    assert consumer.delivered == ["u2 push c1\n"]
    assert consumer.problems == ["not delivered: push of version 2; this consumer knows version 1\n"]
