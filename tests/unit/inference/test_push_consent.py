"""Only users whose newest row opts in are pushed to, however their rows lie in the lake."""

import tempfile
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.worker import push_consent
from inference.worker.push_consent import REFRESH, PushConsent
from stillpoint.events.types import USER_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from tests.support.wellness import FEATURES

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
IDS = [f"u{n}" for n in range(12)]
ROWS = st.lists(st.tuples(st.sampled_from(IDS[:-1]), st.integers(0, 5), st.booleans()), max_size=40)


def keep(lake: Lake, number: int, rows: list[tuple[str, int, bool]]) -> None:
    same = {"signed_up_at": NOON, "gender": None, "locale": None, "subscribed": True}
    table = pa.Table.from_pylist(
        [{**same, "user_id": u, "updated_at": NOON + timedelta(hours=at), "push_opt_in": may} for u, at, may in rows],
        schema=USER_COLUMNS,
    )
    file = lake.write("users", NOON.date(), f"w-{number:03d}", table)
    lake.commit(Commit(writer="w", sequence=number, at=NOON, files=(file,)))


@settings(max_examples=30)
@given(st.lists(ROWS, max_size=3), ROWS, st.integers(200, 3_000))
def test_consent_follows_the_newest_row_of_each_user_and_is_read_again_when_users_were_written(files, later, budget):
    now = NOON
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(LocalObjects(folder), FEATURES)
        may = PushConsent(Lake(LocalObjects(folder), FEATURES), lambda: now, budget=budget)
        newest: dict[str, tuple[int, bool]] = {}
        for number, rows in enumerate([*files, later]):
            keep(lake, number, rows)
            for user, at, allowed in rows:
                if at >= newest.get(user, (-1, False))[0]:
                    newest[user] = at, allowed
            now += REFRESH
            assert {user for user in IDS if may(user)} == {user for user, (_, allowed) in newest.items() if allowed}


def test_users_are_read_again_only_if_rows_were_written(tmp_path, monkeypatch):
    lake, now, read = Lake(LocalObjects(tmp_path), FEATURES), NOON, []
    keep(lake, 0, [("u1", 0, True)])
    made = push_consent.opted_in
    monkeypatch.setattr(push_consent, "opted_in", lambda *what, **how: read.append(1) or made(*what, **how))
    may = PushConsent(lake, lambda: now)
    for _ in range(3):
        assert may("u1")
        now += REFRESH
    assert len(read) == 1
    keep(lake, 1, [("u1", 1, False)])
    assert not may("u1")
    assert len(read) == 2
