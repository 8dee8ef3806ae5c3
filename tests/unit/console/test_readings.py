"""Readings are shared, made once at a time, and never raise; one that hangs says so and keeps what was last known."""

import asyncio
import threading

import pytest

from console.live.readings import Readings
from stillpoint.errors import NotFound, StackUnavailable


@pytest.fixture
def readings():
    made = Readings(patience=0.2)
    yield made
    made.close()


def test_those_who_ask_at_once_share_one_reading(readings):
    made = []

    async def ask():
        found = await asyncio.gather(*(readings.read("n", lambda: made.append(1) or len(made)) for _ in range(20)))
        return [one.value for one in found]

    assert asyncio.run(ask()) == [1] * 20


def test_a_reading_is_kept_for_as_long_as_it_is_fresh_enough_for_who_asks(readings):
    made = []

    async def ask():
        for fresh in (0.0, 60.0, -1.0):
            await readings.read("n", lambda: made.append(1), fresh=fresh)
        readings.forget("n")
        await readings.read("n", lambda: made.append(1), fresh=60.0)

    asyncio.run(ask())
    assert len(made) == 3


def test_a_failure_is_a_sentence_with_what_to_do(readings, monkeypatch, tmp_path):
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))

    def fails(error):
        def make():
            raise error

        return asyncio.run(readings.read(type(error).__name__, make)).trouble

    away = fails(StackUnavailable("Redis at h:1 is away"))
    assert (away.sentence, away.away) == ("Redis at h:1 is away.", True)
    assert "stillpoint up" in away.advice
    assert fails(NotFound("there is no release 'r9'")).unknown
    defect = fails(ZeroDivisionError("division by zero"))
    assert "the traceback is in" in defect.sentence
    assert "Traceback" not in defect.sentence


def test_one_that_hangs_blocks_nobody_and_keeps_what_was_last_known(readings):
    released = threading.Event()

    async def ask():
        await readings.read("n", lambda: 1)
        hung = await readings.read("n", lambda: released.wait(30), fresh=-1.0)
        other = await readings.read("m", lambda: 2)
        released.set()
        return hung, other

    hung, other = asyncio.run(ask())
    assert (hung.value, other.value) == (1, 2)
    assert "has not answered for" in hung.trouble.sentence


def test_why_a_slow_reading_failed_is_told_to_those_who_had_stopped_waiting(readings):
    released = threading.Event()

    def slow_failure():
        released.wait(30)
        raise StackUnavailable("Redis at h:1 is away")

    async def ask():
        first = await readings.read("n", slow_failure)
        released.set()
        await asyncio.sleep(0.05)
        released.clear()
        second = await readings.read("n", slow_failure)
        released.set()
        return first, second

    first, second = asyncio.run(ask())
    assert "has not answered" in first.trouble.sentence
    assert second.trouble.sentence == "Redis at h:1 is away."
