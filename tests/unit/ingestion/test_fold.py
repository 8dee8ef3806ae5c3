"""The lake holds the same after its old commits were folded, whatever is killed and whoever reads meanwhile."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.log_checkpoint import fold
from ingestion.rebuild import last_committed, verdict_sums
from stillpoint.errors import CorruptData
from stillpoint.lake.checkpoint import CheckpointedCommit
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from tests.support.wellness import FEATURES

START = datetime(2026, 3, 1, tzinfo=UTC)
LATER = START + timedelta(days=365)
DATASETS = ("events", "quarantine", "served")
VERDICTS = {"events": "on_time", "quarantine": "quarantined"}


class InMemory:
    """Objects of one process, as far as commits need them."""

    root = "memory"

    def __init__(self):
        self.held = {}
        self.before_get = lambda key: None
        self.before_delete = lambda key: None

    def get(self, key):
        from stillpoint.errors import ObjectMissing

        self.before_get(key)
        if key not in self.held:
            raise ObjectMissing(key)
        return self.held[key]

    def create(self, key, data):
        from stillpoint.errors import AlreadyExists

        if key in self.held:
            raise AlreadyExists(key)
        self.held[key] = data

    def list(self, prefix):
        return iter(sorted(key for key in self.held if key.startswith(prefix)))

    def delete(self, key):
        self.before_delete(key)
        self.held.pop(key, None)


def commit(lake, writer, sequence, at, names=(), supersedes=(), **properties):
    files = tuple(
        CommittedFile(dataset=dataset, date=date(2026, 3, 1), path=f"{dataset}/{name}", rows=1)
        for dataset, name in names
    )
    done = Commit(writer=writer, sequence=sequence, at=at, files=files, supersedes=supersedes, properties=properties)
    return lake.commit(done)


def some(lake, count=6, writer="stream-a"):
    for number in range(count):
        names = [("events", f"{writer}-{number}")]
        assert commit(lake, writer, number, START + timedelta(minutes=number), names, verdict_on_time=1)


def told(objects):
    """Return what a reader that begins now gets to know."""
    lake = Lake(objects, FEATURES)
    return {dataset: lake.files(dataset) for dataset in DATASETS}, verdict_sums(lake, "stream-a")


@given(data=st.data())
def test_folding_at_any_moment_changes_nothing_that_a_reader_sees(data):
    objects = InMemory()
    lake, held, sequences = Lake(objects, FEATURES), [], {}
    for minute in range(data.draw(st.integers(2, 25), "commits")):
        at = START + timedelta(minutes=minute)
        writer = data.draw(st.sampled_from(["stream-a", "stream-b", f"once-{minute}"]), "writer")
        sequence = sequences[writer] = sequences.get(writer, -1) + data.draw(st.integers(1, 2), "step")
        gone = data.draw(st.lists(st.sampled_from(held), max_size=4, unique=True) if held else st.just([]), "gone")
        names = [
            (data.draw(st.sampled_from(DATASETS)), f"{minute}-{n}")
            for n in range(data.draw(st.integers(0, 2), "files"))
        ]
        sums = Counter(f"verdict_{VERDICTS[dataset]}" for dataset, _ in names if dataset in VERDICTS)
        commit(lake, writer, sequence, at, names, tuple(gone), **sums)
        held = [path for path in held if path not in gone] + [f"{dataset}/{name}" for dataset, name in names]
        if data.draw(st.booleans(), "fold"):
            before = told(objects)
            fold(lake, before=START + timedelta(minutes=data.draw(st.integers(0, minute + 1))), fewest=1)
            assert told(objects) == before
            assert {dataset: lake.files(dataset) for dataset in DATASETS} == before[0]
            assert len(list(objects.list("folds/"))) <= 1
    everything = [file.path for files in told(objects)[0].values() for file in files]
    assert sorted(everything) == sorted(held)
    assert Lake(objects, FEATURES).writers() == set(sequences)
    for writer, sequence in sequences.items():
        for reader in (lake, Lake(objects, FEATURES)):
            assert reader.committed(writer, sequence)
            assert not commit(reader, writer, sequence, LATER, [("events", "again")])
    assert sorted(everything) == sorted(file.path for files in told(objects)[0].values() for file in files)


def test_many_commits_become_one_object_and_the_newest_of_a_stream_stays():
    objects = InMemory()
    lake = Lake(objects, FEATURES)
    some(lake)
    commit(lake, "once", 0, START)
    assert fold(lake, before=LATER, fewest=6) == 6
    assert [key for key in objects.held if key.startswith("commits/")] == ["commits/stream-a/000000000005.json"]
    assert len(list(objects.list("folds/"))) == 1
    assert last_committed(lake, "stream-a") == 5
    (one,) = [one for one in Lake(objects, FEATURES).commits() if isinstance(one, CheckpointedCommit)]
    assert (one.writer, one.commits, len(one.files)) == ("stream-a", 5, 5)
    assert fold(lake, before=LATER, fewest=1) == 0


def test_a_fold_takes_the_last_one_up_and_forgets_files_that_were_replaced():
    objects = InMemory()
    lake = Lake(objects, FEATURES)
    some(lake, 3, "once")
    fold(lake, before=LATER, fewest=1)
    commit(lake, "merge", 0, START, [("events", "merged")], tuple(f"events/once-{number}" for number in range(3)))
    commit(lake, "once", 3, START)
    assert fold(lake, before=LATER, fewest=1) == 2
    (key,) = objects.list("folds/")
    found = Lake(objects, FEATURES).checkpoint()
    assert (found.key, found.generation) == (key, 2)
    (kept,) = (one for one in found.commits if one.files or one.supersedes)
    assert ([file.path for file in kept.files], kept.supersedes) == (["events/merged"], ())
    assert found.sequences == {"once": ((0, 3),), "merge": ((0, 0),)}
    assert [one.commits for one in Lake(objects, FEATURES).commits("once")] == [4]


def test_a_commit_whose_files_do_not_hold_its_sums_is_never_folded():
    objects = InMemory()
    lake = Lake(objects, FEATURES)
    some(lake, 3)
    commit(lake, "stream-a", 3, START, [("events", "too-many")], verdict_on_time=7)
    commit(lake, "stream-a", 4, START)
    assert fold(lake, before=LATER, fewest=1) == 3
    kept = [one.sequence for one in Lake(objects, FEATURES).commits() if not isinstance(one, CheckpointedCommit)]
    assert kept == [3, 4]


def test_few_or_young_commits_are_left_alone():
    objects = InMemory()
    lake = Lake(objects, FEATURES)
    some(lake)
    assert fold(lake, before=LATER) == 0
    assert fold(lake, before=START, fewest=1) == 0
    assert not list(objects.list("folds/"))


@pytest.mark.parametrize("deleted", [0, 3])
@pytest.mark.parametrize("again", [False, True])
def test_killed_before_all_were_deleted_each_counts_once_and_the_next_run_deletes_the_others(deleted, again):
    objects = InMemory()
    lake = Lake(objects, FEATURES)
    if again:
        some(lake, 2, "earlier")
        fold(lake, before=LATER, fewest=1)
    some(lake)
    before, left = told(objects), iter([True] * deleted)

    def killed(key):
        if not next(left, False):
            raise OSError("killed")

    objects.before_delete = killed
    with pytest.raises(OSError, match="killed"):
        fold(lake, before=LATER, fewest=1)
    assert told(objects) == before
    objects.before_delete = lambda key: None
    undeleted = len(list(objects.list("commits/"))) - 1
    assert 5 - deleted <= undeleted <= 5
    assert fold(Lake(objects, FEATURES), before=LATER, fewest=1) == undeleted
    assert told(objects) == before
    assert len(list(objects.list("folds/"))) == 1


@pytest.mark.parametrize("quicker", [1, 2])
def test_a_run_that_lost_its_lease_and_wakes_up_later_changes_nothing(quicker):
    objects = InMemory()
    some(Lake(objects, FEATURES))
    create = objects.create

    def frozen(key, data):
        objects.create = create
        for number in range(quicker):
            fold(Lake(objects, FEATURES), before=LATER, fewest=1)
            some(Lake(objects, FEATURES), 2, f"later-{number}")
        objects.asleep = told(objects)
        create(key, data)

    objects.create = frozen
    fold(Lake(objects, FEATURES), before=LATER, fewest=1)
    assert told(objects) == objects.asleep
    fold(Lake(objects, FEATURES), before=LATER, fewest=1)
    assert told(objects) == objects.asleep
    assert len(list(objects.list("folds/"))) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_reader_that_listed_what_is_folded_before_it_is_read_sees_all(again):
    objects = InMemory()
    writer = Lake(objects, FEATURES)
    if again:
        some(writer, 2, "earlier")
        fold(writer, before=LATER, fewest=1)
    some(writer)
    before = told(objects)

    def folds_meanwhile(key):
        objects.before_get = lambda key: None
        fold(writer, before=LATER, fewest=1)

    objects.before_get = folds_meanwhile
    assert told(objects) == before


def test_the_newest_rows_are_found_among_what_was_folded(tmp_path):
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    for number in range(12):
        day = date(2026, 3, 1) + timedelta(days=number // 2)
        file = lake.write("numbers", day, f"n{number}", pa.table({"number": [number]}))
        lake.commit(Commit(writer="once", sequence=number, at=START + timedelta(minutes=number), files=(file,)))
        if number < 8:
            (tmp_path / file.path).write_bytes(b"not read")
    fold(lake, before=LATER, fewest=1)
    assert sorted(Lake(lake.objects, FEATURES).newest("numbers", 3)["number"].to_pylist()) == [8, 9, 10, 11]


def test_a_damaged_fold_is_named_and_never_skipped(tmp_path):
    objects = LocalObjects(tmp_path)
    some(Lake(objects, FEATURES))
    fold(Lake(objects, FEATURES), before=LATER, fewest=1)
    (key,) = objects.list("folds/")
    objects.put(key, b"{half")
    with pytest.raises(CorruptData, match=rf"{key} is not a fold"):
        Lake(objects, FEATURES).files("events")
