"""No answer of the real service is failed, mixed or another user's while the live release changes again and again."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from release.context import ReleaseContext
from release.rehearsal.plan import Fault, plan_flips
from release.rehearsal.report import plot, text
from release.rehearsal.run import break_servers, rehearse
from release.status import status
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.local.process import free_port
from stillpoint.settings import Settings
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.rehearsal_world import bring_up
from tests.support.release_world import USERS, context_for
from tests.support.wellness import FEATURES

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture
def context(tmp_path: Path, redis_factory: Any) -> ReleaseContext:
    """Tools with a Redis server for each colour."""
    green, blue = redis_factory().connection_string, redis_factory().connection_string
    settings = Settings(
        _env_file=None,
        home=tmp_path / "home",
        lake=str(tmp_path / "lake"),
        redis_blue=blue,
        **{f"redis_{name}": green for name in ("green", "serving", "state", "sandbox")},
    )
    return context_for(settings, Lake(LocalObjects(tmp_path / "lake"), FEATURES), load_seconds=20.0, lease_seconds=10.0)


@contextlib.contextmanager
def service(context: ReleaseContext, *, workers: int) -> Iterator[tuple[str, int]]:
    """Run `stillpoint serve` for real; gives its address and process."""
    port = free_port()
    settings = context.settings
    environment = {
        **os.environ,
        "STILLPOINT_HOME": str(settings.home),
        "STILLPOINT_LAKE": settings.lake,
        **{
            f"STILLPOINT_REDIS_{name.upper()}": getattr(settings, f"redis_{name}").get_secret_value()
            for name in ("green", "blue", "serving", "state", "sandbox")
        },
        "STILLPOINT_AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    }
    log = (settings.home.parent / "serve.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", "from stillpoint.cli import main; main()", "serve",
         "--port", str(port), "--workers", str(workers)],
        env=environment, cwd=settings.home.parent, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while len(context.workers()) < workers or not _ready(url):
            assert process.poll() is None, (settings.home.parent / "serve.log").read_text()
            assert time.monotonic() < deadline, (settings.home.parent / "serve.log").read_text()
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def test_six_moves_with_faults_under_load_give_no_failed_no_mixed_and_no_wrong_answer(
    context: ReleaseContext, tmp_path: Path
) -> None:
    bring_up(context)
    planned = plan_flips(
        seed=7, flips=6, faults=[Fault.NONE, Fault.CUT_CONNECTIONS, Fault.SLOW_BOOK, Fault.LOST_NEWS], pause=(0.3, 0.8)
    )
    with service(context, workers=1) as (url, _):
        found, history = rehearse(
            context, url, planned, seed=7, rate=60, breaks=break_servers(context), warm_seconds=1.0, threads=3
        )
    said = text(found)
    assert found.verdict.passed, said
    assert found.verdict.requests > 150
    assert set(found.verdict.per_release) == {"r0001", "r0002"}
    assert len([answer for answer in history.answers if answer.source == "model"]) > 100
    assert [move.generation for move in found.moves] == [3, 4, 5, 6, 7, 8]
    assert all(move.switch_seconds < 1 for move in found.moves), said
    plot(found, history.answers, tmp_path / "rehearsal.svg")
    assert "<svg" in (tmp_path / "rehearsal.svg").read_text()
    assert "0 failed, 0 mixed, 0 time travel, 0 wrong user" in said


def test_a_mapping_that_is_mixed_up_behind_the_guards_back_is_found_within_seconds(context: ReleaseContext) -> None:
    world = bring_up(context)
    live = context.book.get("r0002")
    turned = [
        {
            "user_id": user,
            "event_timestamp": world.now,
            "created_timestamp": world.now,
            "sequence_id": place,
            "mapping_version": 2,
        }
        for place, user in enumerate(USERS)
    ]
    table = pa.Table.from_pylist(turned, schema=feature_columns(USER_SEQUENCE))
    OnlineWriter(context.online(live.colour), live.project).write(ViewLayout.of(USER_SEQUENCE), table)
    with service(context, workers=1) as (url, _):
        found, _ = rehearse(context, url, [], seed=7, rate=40, breaks=break_servers(context), warm_seconds=1.0)
        assert context.wait_until(lambda: any(worker.canaries_wrong for worker in context.workers()), 30)
        exported = httpx.get(f"{url}/metrics").text
        shown = {one.colour: one.canaries_wrong for one in status(context).colours}
    (told,) = re.findall(r'stillpoint_canaries\{found="wrong"\} (\d+)', exported)
    assert int(told) == shown[live.colour] > 10
    assert found.verdict.wrong_user >= 3
    assert found.verdict.wrong_user > found.verdict.requests / 4
    assert found.verdict.mixed == found.verdict.failed == 0
    assert "got what is" in found.verdict.examples[0]


@pytest.mark.soak
def test_eighty_moves_at_two_hundred_requests_a_second(
    context: ReleaseContext, capsys: pytest.CaptureFixture[str]
) -> None:
    bring_up(context)
    with service(context, workers=2) as (url, pid):
        found, _ = rehearse(
            context,
            url,
            plan_flips(seed=1, flips=80),
            seed=1,
            rate=200,
            breaks=break_servers(context, [pid]),
            warm_seconds=20,
        )
    with capsys.disabled():
        print(f"\n{text(found)}")
    assert found.verdict.passed, text(found)
    assert all(move.switch_seconds < 1 for move in found.moves), text(found)
