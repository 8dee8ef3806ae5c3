"""What is red says what was found, what was expected, and has a page that says what to do."""

from datetime import UTC, datetime, timedelta

import pytest

from console.reading import red
from console.reading.memory import ServerMemory
from console.reading.queues import Queue
from console.reading.runbook import _ACTIONS, runbook_page
from console.reading.stream import STEP, summed
from console.reading.traffic import Traffic
from stillpoint.lake.commits import Commit
from stillpoint.local.stack import ProcessStatus, ServerStatus

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def commit(number, ago, **counts):
    named = {f"verdict_{name}": count for name, count in counts.items()}
    arrived = int((NOW - ago).timestamp() * 1e6)
    return Commit(writer="stream-1", sequence=number, at=NOW - ago, properties={**named, "newest_arrival_us": arrived})


def traffic(**changes):
    calm = {
        "requests_per_second": 1.0, "predictions_per_second": 1.0, "failed_per_second": 0.0, "fallback_share": 0.0,
        "refusals": 0.0, "saturated": 0.0, "in_flight": 0.0, "series": (), "releases": (), "routes": (), "stages": (),
    }  # fmt: skip
    return Traffic(**{**calm, **changes})


def lines():
    queue = {"name": "q", "what": "", "in_work": 0, "delayed": 0}
    server = {"server": "h:1", "holds": (), "policy": "noeviction"}
    work = summed([commit(1, timedelta(minutes=7), on_time=10, quarantined=90)], NOW)
    yield from red.of_servers(
        [ServerStatus("redis", "Redis", "h:1", "down", None, None, None)],
        [ProcessStatus("stream", None, "left behind", 7, None)],
    )
    yield from red.of_stream(work, NOW, running=True)
    yield from red.of_queues([Queue(waiting=1, dead_letters=True, **queue), Queue(waiting=5_000, **queue)])
    yield from red.of_memory([ServerMemory(used=95, limit=100, evicted=3, **server)])
    yield from red.of_traffic(traffic(failed_per_second=0.5, fallback_share=0.5, refusals=2.0))


def test_every_red_line_is_a_sentence_with_a_page_that_says_what_to_do():
    found = list(lines())
    assert [line.page for line in found] == [
        "ServerDown", "ServerDown", "QuarantineGrows", "FeaturesAreStale", "DeadLetters", "QueueGrows", "RedisEvicts",
        "RedisIsFull", "ServiceFails", "FallbacksAreServed", "GuardRefuses",
    ]  # fmt: skip
    for line in found:
        assert line.sentence.endswith(".")
        page = runbook_page(line.page)
        assert page is not None, line.page
        assert page.markdown or page.action


@pytest.mark.parametrize("name", sorted(_ACTIONS))
def test_every_page_of_the_console_itself_can_be_opened(name):
    assert runbook_page(name) is not None


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 65, "Nothing", "x/y"])
def test_a_name_that_is_no_page_opens_nothing(name):
    assert runbook_page(name) is None


def test_a_page_of_the_repository_goes_before_what_the_alert_says(tmp_path):
    (tmp_path / "dead-letters.md").write_text("# Dead letters")
    assert runbook_page("DeadLetters", folder=tmp_path).markdown == "# Dead letters"
    assert runbook_page("DeadLetters", folder=tmp_path / "none").action is not None


def test_calm_is_not_red():
    calm = summed([commit(1, timedelta(seconds=20), on_time=100, quarantined=1)], NOW)
    assert list(red.of_stream(calm, NOW, running=True)) == []
    assert list(red.of_traffic(traffic(fallback_share=None, failed_per_second=None))) == []
    assert list(red.of_servers([ServerStatus("mlflow", "MLflow", "", "starting", None, 1, None)], [])) == []


def test_events_a_second_are_counted_by_the_time_of_their_commit_and_the_future_is_left_out():
    found = summed(
        [
            commit(1, timedelta(seconds=1), on_time=30),
            commit(2, timedelta(minutes=14, seconds=59), on_time=15),
            commit(3, timedelta(minutes=16), on_time=1_000),
            commit(4, -timedelta(seconds=5), on_time=7),
        ],
        NOW,
    )
    assert found.per_second[-1] == 30 / STEP.total_seconds()
    assert found.per_second[0] == 15 / STEP.total_seconds()
    assert sum(found.per_second) * STEP.total_seconds() == 45
    assert dict(found.lately)["on_time"] == 45
    assert dict(found.verdicts)["on_time"] == 1_052
    assert summed([], NOW).quarantined_share is None
