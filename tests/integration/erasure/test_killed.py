"""An erasure can be killed at any moment and run again, with no other user touched."""

from datetime import UTC, datetime, timedelta

import pytest

from privacy.erasure.lake import LakeErasure
from privacy.erasure.receipt import RECEIPTS
from privacy.erasure.run import erase
from stillpoint.lake.tables import Lake
from tests.support.known_users import OTHER, USER
from tests.support.wellness import FEATURES

STEPS = ("_wait_for_stream", "forget_features", "forget_state", "LakeErasure.supersede", "LakeErasure.purge")
STEPS += ("LakeErasure.revise_snapshots", "LakeErasure.revise_documents", "remaining")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_can_be_run_again(home, monkeypatch, step):
    home.processor._lease.release()

    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    owner = LakeErasure if step.startswith("LakeErasure.") else None
    with monkeypatch.context() as patch:
        if owner is not None:
            patch.setattr(owner, step.removeprefix("LakeErasure."), kill)
        else:
            patch.setattr(f"privacy.erasure.run.{step}", kill)
        with pytest.raises(Killed):
            home.erase()
    home.erase()
    assert home.found(USER) == []
    again = home.erase()
    assert not again.found
    assert again.removed == ()


class Dying:
    """Objects of a process that is killed at its nth write, before or after it takes effect: nothing is written later."""

    def __init__(self, objects, nth, *, done):
        self._objects, self._left, self._done = objects, nth, done
        self.killed = False

    def __getattr__(self, name):
        found = getattr(self._objects, name)
        return found if name not in ("put", "put_file", "create", "delete") else lambda *what: self._write(found, *what)

    def _write(self, write, *what):
        if self.killed:
            raise Dead
        self._left -= 1
        if self._left > 0 or self._done:
            write(*what)
        if self._left <= 0:
            self.killed = True
            raise Dead


class Dead(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("done", [False, True])
def test_killed_at_one_write_after_the_other_it_completes_and_others_are_whole_all_the_time(home, done):
    home.processor._lease.release()
    before, nth = home.kept(OTHER), 0
    while True:
        nth += 1
        dying = Dying(home.lake.objects, nth, done=done)
        minutes = timedelta(minutes=nth)  # by when the leases of the killed have run out
        try:
            receipt = erase(
                home.settings,
                Lake(dying, FEATURES),
                USER,
                clock=lambda minutes=minutes: datetime.now(UTC) + minutes,
                settle_seconds=0.0,
            )
            break
        except Dead:
            assert home.kept(OTHER) == before
    assert nth > 12, "the test must kill at many writes"
    receipts = [
        home.lake.get_json(key) for key in home.lake.objects.list(RECEIPTS) if not key.endswith("/pending.json")
    ]
    assert receipt.model_dump(mode="json") in receipts
    told = [one["models"] for one in receipts]  # several, if a run was killed while it gave its lease back
    assert [home.made.bundle.key] in told, "what a killed run found out is told by the one that completes"
    assert home.kept(OTHER) == before
    assert home.found(USER) == []


def test_rows_of_a_snapshot_that_was_never_completed_go_too(home):
    home.processor._lease.release()
    rows = home.lake.objects.get("snapshots/s1/rows.parquet")
    home.lake.objects.put("snapshots/killed/rows.parquet", rows)
    home.erase()
    assert home.found(USER) == []


def test_a_half_revised_snapshot_is_completed(home, monkeypatch):
    home.processor._lease.release()
    put_json = Lake.put_json
    with monkeypatch.context() as patch:

        def fail(lake, key, value):
            if key.endswith("s1/manifest.json"):
                raise KeyboardInterrupt
            put_json(lake, key, value)

        patch.setattr(Lake, "put_json", fail)
        with pytest.raises(KeyboardInterrupt):
            home.erase()
    assert home.lake.get_json("snapshots/s1/manifest.json")["rows"] == 3, (
        "the old revision stands until the new one does"
    )
    home.erase()
    assert home.lake.get_json("snapshots/s1/manifest.json")["rows"] == 2
    assert list(home.lake.objects.list("snapshots/s1/rows")) == ["snapshots/s1/rows-1.parquet"]
