"""What was served reaches the lake once, in batches, also when the lake is away and the process stops meanwhile."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inference.predictions.served_log
from inference.predictions.predict import Prediction, PredictionTask, Source
from inference.predictions.served_log import ServedLog
from inference.predictions.spool import Spool
from inference.ranking.rank import Ranking
from inference.ranking.user_features import UserFeatures
from stillpoint.clock import system_clock
from stillpoint.errors import CorruptData, StackUnavailable
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.messages import Item, Kind
from stillpoint.tombstones import bury
from tests.support.wellness import FEATURES

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = b"key"


class Views(list[Any]):
    """Views that note in which thread they are looked at."""

    threads: set[str]

    def __init__(self, corrupt: bool) -> None:
        super().__init__()
        self.threads, self._corrupt = set(), corrupt

    def __iter__(self) -> Any:
        self.threads.add(threading.current_thread().name)
        if self._corrupt:
            raise CorruptData("these bytes are none")
        return super().__iter__()


def prediction(number: int, *, corrupt: bool = False) -> Prediction:
    user = f"u{number}"
    item = Item(content_id="c1", title="t", category="sleep", score=1.0)
    return Prediction(
        task=PredictionTask(f"request{number}", user, Kind.TODAY, AT, None),
        recommendation_id=f"recommendation{number}",
        release="r0001",
        generation=1,
        mapping_version=1,
        source=Source.MODEL,
        refusal=None,
        items=(item,),
        ranking=Ranking(("c1", "c2"), np.array([1.0, 0.5]), (item,)),
        user=UserFeatures(user, {}, None, None, None, Views(corrupt)),
        at=AT,
        arm="a",
    )


class Failing(LocalObjects):
    """A lake that is away while `away`."""

    away = False

    def put(self, key: str, data: bytes) -> None:
        if self.away:
            raise StackUnavailable("the lake is away")
        super().put(key, data)


class Busy(LocalObjects):
    """A lake during each of whose writes another prediction is made."""

    busy: Callable[[], None] | None = None

    def put(self, key: str, data: bytes) -> None:
        if self.busy is not None:
            self.busy()
        super().put(key, data)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.predictions.served_log, "FLUSH_SECONDS", 0.05)


@pytest.fixture
def store(tmp_path: Path) -> Failing:
    return Failing(tmp_path / "lake")


def log(store: Failing, spool: Path | None = None) -> ServedLog:
    return ServedLog(Lake(store, FEATURES), clock=system_clock, erasure_key=KEY, spool=spool)


def served(store: Failing) -> list[str]:
    rows: list[str] = Lake(store, FEATURES).read("served")["request_id"].to_pylist()
    return rows


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_predictions_made_while_a_batch_is_written_wait_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.predictions.served_log, "FLUSH_SECONDS", 3600)
    store, numbers = Busy(tmp_path / "lake"), iter(range(1, 100))
    made = ServedLog(Lake(store, FEATURES), clock=system_clock, erasure_key=KEY)
    store.busy = lambda: made.add(prediction(next(numbers)))
    made.add(prediction(0))
    made._flush()
    assert [commit.files[0].rows for commit in Lake(store, FEATURES).commits()] == [1]
    store.busy = None
    made.close()
    assert [commit.files[0].rows for commit in Lake(store, FEATURES).commits()] == [1, 1]


def test_rows_are_built_in_the_log_s_thread_and_written_in_batches(store: Failing) -> None:
    made, several = log(store), [prediction(n) for n in range(50)]
    for one in several:
        made.add(one)
    made.close()
    assert sorted(served(store)) == sorted(one.task.request_id for one in several)
    assert {name for one in several for name in one.user.views.threads} == {"served-log"}  # type: ignore[attr-defined]
    assert len(Lake(store, FEATURES).commits()) <= 2
    assert made.lost == 0


def test_what_the_lake_does_not_take_waits_and_is_written_once_when_it_is_back(store: Failing, tmp_path: Path) -> None:
    made = log(store, tmp_path / "spool")
    store.away = True
    for number in range(30):
        made.add(prediction(number))
    until(lambda: any((tmp_path / "spool").glob("*/*.arrow")))
    assert made.failures
    store.away = False
    until(lambda: len(served(store)) == 30)
    made.close()
    assert len(set(served(store))) == 30
    assert not list((tmp_path / "spool").glob("*"))
    assert made.lost == 0


def test_a_stop_while_the_lake_is_away_loses_nothing(store: Failing, tmp_path: Path) -> None:
    store.away = True
    made = log(store, tmp_path / "spool")
    for number in range(30):
        made.add(prediction(number))
    made.close()
    assert (made.lost, served(store)) == (0, [])
    (folder,) = (tmp_path / "spool").iterdir()
    (folder / "00000099.unfinished").write_bytes(b"half a batch of a process that was killed")
    store.away = False
    log(store, tmp_path / "spool").close()
    assert len(served(store)) == len(set(served(store))) == 30
    assert list((tmp_path / "spool").rglob("*")) == [], "nothing stays that an erasure could not reach"


def test_a_batch_whose_commit_succeeded_though_the_answer_was_lost_is_not_written_twice(
    store: Failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(key: str, data: bytes) -> None:
        LocalObjects.create(store, key, data)
        if key.startswith("commits/served"):
            monkeypatch.undo()
            raise StackUnavailable("the answer was lost")

    monkeypatch.setattr(inference.predictions.served_log, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(store, "create", create)
    made = log(store, tmp_path / "spool")
    made.add(prediction(1))
    until(lambda: made.failures > 0)
    made.close()
    log(store, tmp_path / "spool").close()
    assert served(store) == ["request1"]


def test_what_a_killed_process_left_behind_is_adopted_and_a_living_one_keeps_its_own(
    store: Failing, tmp_path: Path
) -> None:
    code = (
        "import sys, os, time, pyarrow as pa; from pathlib import Path; from inference.predictions.spool import Spool; "
        "from stillpoint.served_rows import SERVED_COLUMNS; spool = Spool(Path(sys.argv[1]), 'served-dead'); "
        "import datetime; at = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC); "
        "row = dict.fromkeys(SERVED_COLUMNS.names, 'x') | dict(served_at=at, generation=1, items=[], candidates=[], "
        "scores=[], views=[]); spool.keep(0, pa.Table.from_pylist([row], schema=SERVED_COLUMNS)); "
        "print('kept', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "spool")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"kept\n"
        log(store, tmp_path / "spool").close()
        assert served(store) == []
        other.kill()
        other.wait()
    log(store, tmp_path / "spool").close()
    assert served(store) == ["x"]


def test_memory_and_disk_are_bounded_and_what_is_dropped_is_counted(
    store: Failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.predictions.served_log, "WAITING", 40)
    store.away = True
    made = log(store)
    made._spool = Spool(tmp_path / "spool", made._writer, limit_bytes=0)
    for number in range(400):
        made.add(prediction(number))
        time.sleep(0.001)
    made.close()
    assert made.lost == 400


def test_a_record_that_cannot_be_built_costs_only_itself(store: Failing) -> None:
    made = log(store)
    for number in range(3):
        made.add(prediction(number, corrupt=number == 1))
    made.close()
    assert (served(store), made.lost) == (["request0", "request2"], 1)


def test_a_user_who_is_erased_while_their_record_waits_on_disk_is_not_written(store: Failing, tmp_path: Path) -> None:
    store.away = True
    made = log(store, tmp_path / "spool")
    made.add(prediction(1))
    made.add(prediction(2))
    made.close()
    store.away = False
    bury(store, KEY, ["u1"], AT)
    log(store, tmp_path / "spool").close()
    assert served(store) == ["request2"]
