"""How often an erasure reads the files of a lake that know nothing of the user."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy.erasure import lake as erasing
from privacy.erasure.lake import LakeErasure
from stillpoint.events.types import USER_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import TABLES
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from tests.support.wellness import FEATURES

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def users(*names: str) -> pa.Table:
    row = {"signed_up_at": NOON, "gender": None, "locale": "en", "subscribed": True, "push_opt_in": False}
    return pa.Table.from_pylist([{"user_id": name, "updated_at": NOON, **row} for name in names], schema=USER_COLUMNS)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    for number in range(30):
        file = lake.write("users", NOON.date(), f"w-{number}", users(f"u{number}", "other"))
        lake.commit(Commit(writer="w", sequence=number, at=NOON, files=(file,)))
    return lake


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each file that is opened."""
    opened: list[int] = []

    class Counted(pq.ParquetFile):  # type: ignore[misc]
        def __init__(self, source: object) -> None:
            opened.append(1)
            super().__init__(source)

    monkeypatch.setattr(erasing.pq, "ParquetFile", Counted)
    return opened


def test_each_file_is_looked_into_once_for_somebody_unknown(lake: Lake, looked: list[int]) -> None:
    own = LakeErasure(lake, frozenset({"nobody"}), "run")
    own.supersede(at=NOON)
    own.supersede(at=NOON)
    own.purge()
    assert len(looked) == 30
    assert not own.traces["nobody"].removed


def test_what_was_written_since_is_looked_into_and_what_holds_the_user_goes(lake: Lake, looked: list[int]) -> None:
    own = LakeErasure(lake, frozenset({"u7"}), "run")
    own.supersede(at=NOON)
    late = lake.write("users", NOON.date(), "late", users("u7", "u8"))
    lake.commit(Commit(writer="late", sequence=0, at=NOON, files=(late,)))
    uncommitted = lake.write("users", NOON.date(), "killed", users("u7"))
    own.supersede(at=NOON)
    own.purge()
    assert own.traces["u7"].removed == {"users": 2}
    names = lake.read("users")["user_id"].to_pylist()
    assert ("u7" in names, names.count("other"), names.count("u8")) == (False, 30, 2)
    paths = list(lake.objects.list("users/"))
    assert uncommitted.path not in paths
    assert late.path not in paths
    assert len(looked) < 45


def made(lake: Lake, key: str) -> Path:
    path = Path(lake.root) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_a_table_that_is_replaced_at_its_path_is_looked_into_each_time(lake: Lake) -> None:
    path = f"{TABLES}users/date={NOON.date()}/rows.parquet"
    own = LakeErasure(lake, frozenset({"u1"}), "run")
    pq.write_table(users("other"), made(lake, path))
    own.purge()
    pq.write_table(users("u1", "other"), made(lake, path))
    own.purge()
    assert pq.read_table(Path(lake.root) / path)["user_id"].to_pylist() == ["other"]
