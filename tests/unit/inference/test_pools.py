"""Slow work keeps its own place, and nobody else's, also when nobody waits for it any more."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from inference.http.pools import Pool
from inference.http.problems import Problem


async def give_up(pool: Pool, work: Callable[[], Any], seconds: float = 0.01) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await pool.run(work)


def test_work_that_nobody_waits_for_keeps_its_place_until_it_ends() -> None:
    go, ran = threading.Event(), []

    def slow() -> None:
        ran.append(1)
        assert go.wait(30)

    async def main() -> None:
        pool, other = Pool("explanations", threads=2, waiting=0), Pool("events", threads=1, waiting=0)
        for _ in range(2):
            await give_up(pool, slow)
        for _ in range(3):
            with pytest.raises(Problem) as refused:
                await pool.run(slow)
            assert (refused.value.status, refused.value.retry_after) == (503, 1)
        assert await other.run(lambda: "put") == "put"
        assert len(ran) == 2
        go.set()
        for _ in range(1_000):
            try:
                assert await pool.run(lambda: "again") == "again"
                break
            except Problem:
                await asyncio.sleep(0.01)
        else:
            raise AssertionError("no place became free")

    asyncio.run(main())


def test_work_that_has_not_begun_is_given_up_with_its_place() -> None:
    go, ran = threading.Event(), []

    async def main() -> None:
        pool = Pool("explanations", threads=1, waiting=1)
        first = asyncio.create_task(pool.run(lambda: go.wait(30)))
        await asyncio.sleep(0)
        for _ in range(5):
            await give_up(pool, lambda: ran.append(1))
        go.set()
        assert await first is True
        assert await pool.run(lambda: "next") == "next"
        assert ran == []

    asyncio.run(main())


def test_a_failure_is_raised_and_frees_the_place() -> None:
    async def main() -> None:
        pool = Pool("events", threads=1, waiting=0)

        def fail() -> None:
            raise OSError("away")

        for _ in range(3):
            with pytest.raises(OSError, match="away"):
                await pool.run(fail)

    asyncio.run(main())
