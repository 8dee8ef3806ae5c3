"""Is a person gone from everywhere after an erasure, and everybody else untouched? On a real lake, Redis and stream driver."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ingestion.compact import compact
from ingestion.kinesis_shards import Record
from ingestion.reconcile import reconcile
from stillpoint.clock import to_micros
from stillpoint.control import Target, write_control
from stillpoint.errors import InvalidInput, InvalidSettings, StackUnavailable
from stillpoint.events import Verdict
from stillpoint.features.declarations import STREAMED_VIEWS
from stillpoint.lake import Commit, Lake
from stillpoint.lease import Lease
from stillpoint.messages import Kind
from stillpoint.served import SERVED_COLUMNS
from stillpoint.settings import Colour
from stillpoint.tombstones import Erased, erasure_key, read_tombstones
from stillpoint.under_way import announced, under_way
from tests.batch_world import NOW, Parts, World, searches
from tests.hand_made import hand_made, opted_in
from validation.erasure.lake import LakeErasure
from validation.erasure.rows import mentions
from validation.erasure.run import erase
from validation.export import export

PERSON, OTHER = "u1", "u10"
PROJECT = "stillpoint_green"


class Home:
    """A lake, a Redis and a stream that know two people whose ids begin alike, in every place that keeps something."""

    def __init__(self, folder, server, name):
        self.world = World(folder, server, name)
        self.settings, self.lake, self.redis = self.world.settings, self.world.lake, server.client()
        views = tuple(view.name for view in STREAMED_VIEWS)
        write_control(self.lake.objects, (Target(colour=Colour.GREEN, project=PROJECT, views=views),))
        self.made = hand_made(self.lake, self.settings, project=PROJECT, users=12)
        opted_in(self.lake, {PERSON: True, OTHER: True})
        self.processor = self.world.processor()
        broken = [
            Record("s0", f"{90 + n}", user, to_micros(NOW), json.dumps({"user_id": user, "type": "?"}).encode())
            for n, user in enumerate((PERSON, OTHER))
        ]
        self.batch(0, [*searches([1, 2], PERSON), *searches([3], OTHER), *broken])
        for user in (PERSON, OTHER):
            self.redis.hset(f"stillpoint:rec:{user}:{Kind.TODAY}:r0001", "recommendation", user)
            self.redis.zadd(f"stillpoint:finished:{user}", {"c1": 1})
            self.redis.set(f"stillpoint:pushed:{user}", "p")
        self.keep("served", SERVED_COLUMNS, [self.served(user) for user in (PERSON, OTHER)])
        self.keep("mappings/1", None, [self.mapped(user, number) for number, user in enumerate((PERSON, OTHER))])
        self.snapshot("s1", [PERSON, OTHER, OTHER])
        self.lake.put_json("reports/check-r0001.json", {"examples": [f"{PERSON}: 1 instead of 2", f"{OTHER}: 2"]})
        canaries = [{"user_id": user, "sequence_id": 1} for user in (PERSON, OTHER)]
        self.lake.put_json("releases/r0001/canaries.json", {"mapping_version": 1, "canaries": canaries})

    def batch(self, number, records):
        self.processor.process(Parts(records, 2), number)

    def keep(self, dataset, schema, rows):
        table = pa.Table.from_pylist(rows, schema=schema)
        file = self.lake.write(dataset, NOW.date(), f"kept-{dataset.replace('/', '-')}", table)
        self.lake.commit(Commit(writer=f"kept-{dataset.replace('/', '-')}", sequence=0, at=NOW, files=(file,)))

    def snapshot(self, name, users):
        table = pa.table({"user_id": users, "label": [number % 2 for number in range(len(users))]})
        sink = io.BytesIO()
        pq.write_table(table, sink)
        self.lake.objects.put(f"snapshots/{name}/rows.parquet", sink.getvalue())
        body = {"rows": len(users), "positives": 1, "rows_sha256": hashlib.sha256(sink.getvalue()).hexdigest()}
        self.lake.put_json(f"snapshots/{name}/manifest.json", {"id": name, **body})

    @staticmethod
    def served(user):
        empty = {"items": [], "candidates": [], "scores": [], "views": [], "trigger": None}
        named = {name: f"{name}-{user}" for name in ("request_id", "recommendation_id")}
        rest = {"release": "r0001", "generation": 1, "arm": "a", "kind": "today", "source": "model", "served_at": NOW}
        return {**empty, **named, **rest, "user_id": user}

    @staticmethod
    def mapped(user, number):
        at = {"event_timestamp": NOW, "created_timestamp": NOW}
        return {"user_id": user, **at, "sequence_id": number, "mapping_version": 1}

    def erase(self, user=PERSON, **options):
        options = {"clock": lambda: datetime.now(UTC), "settle_seconds": 0.0, "wait_seconds": 10.0, **options}
        return erase(self.settings, Lake(self.lake.objects), user, **options)

    def found(self, user):
        """Return every file of the home and every key of Redis that still mentions a person, compressed columns included."""
        word = mentions(user)
        traces = []
        for path in Path(self.lake.root).rglob("*"):
            if not path.is_file():
                continue
            key, data = str(path.relative_to(self.lake.root)), path.read_bytes()
            data = gzip.decompress(data) if key.startswith("sagemaker/") else data
            if key.endswith(".parquet") and not key.endswith("torn.parquet"):
                data = str(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
            if word.search(data) or word.search(key.encode()):
                traces.append(key)
        for key in self.redis.scan_iter():
            kind = self.redis.type(key)
            value = self.redis.hgetall(key) if kind == b"hash" else b""
            if word.search(key) or word.search(str(value).encode()) or f"{user}{PROJECT}".encode() in key:
                traces.append(key)
        return traces

    def kept(self, user):
        """Return all that is known of a person in the lake and online."""
        lake = Lake(self.lake.objects)
        rows = {
            name: sorted(map(str, lake.read(name).filter(pc.equal(lake.read(name)["user_id"], user)).to_pylist()))
            for name in ("events", "served", "mappings/1", "users", *(f"features/{v.name}" for v in STREAMED_VIEWS))
        }
        online = {key: self.redis.dump(key) for key in self.redis.scan_iter() if user.encode() in key}
        return rows, online


@pytest.fixture
def home(tmp_path, redis_factory, unique):
    return Home(tmp_path, redis_factory(), unique)


def test_a_person_disappears_from_everywhere_and_others_stay_as_they_are(home):
    assert len(home.found(PERSON)) > 12, "the test must plant the person in many places"
    before = home.kept(OTHER)
    home.processor._lease.release()
    receipt = home.erase()
    assert home.found(PERSON) == []
    assert home.kept(OTHER) == before
    counts = {one.place: one.count for one in receipt.removed if one.what in ("rows", "keys")}
    assert counts["lake: events"] == 2
    assert counts["lake: quarantine"] == 1
    assert counts["lake: snapshots"] == 1
    assert counts[f"Redis: {PROJECT} online"] == 1
    assert counts["Redis: recommendations"] == counts["Redis: stream state"] == 1
    assert receipt.revised_snapshots == ("s1",)
    assert receipt.models == (home.made.bundle.key,), "its id mapping held the person"
    assert PERSON not in receipt.model_dump_json().replace(receipt.person, "")
    manifest = home.lake.get_json("snapshots/s1/manifest.json")
    rows = home.lake.objects.get("snapshots/s1/rows-1.parquet")
    assert (manifest["revision"], manifest["rows"], manifest["positives"]) == (1, 2, 1)
    assert manifest["rows_sha256"] == hashlib.sha256(rows).hexdigest()


def test_replays_and_late_events_up_to_the_erasure_are_no_ops_and_a_return_is_allowed(home):
    home.processor._lease.release()
    home.erase()
    home.processor = home.world.processor()
    later = datetime.now(UTC) + timedelta(seconds=5)
    back = searches([7], PERSON)[0]
    document = json.loads(back.data) | {"event_timestamp": later.isoformat()}
    back = back._replace(arrived_us=to_micros(later), data=json.dumps(document).encode())
    fast = searches([50], PERSON)[0]._replace(arrived_us=to_micros(NOW))
    broken = Record("s0", "80", PERSON, to_micros(NOW), b'{"user_id": "u1"')
    home.batch(1, [*searches([1, 2], PERSON), fast, broken, *searches([8], OTHER)])
    assert home.world.reports[-1].verdicts == {Verdict.ERASED: 4, Verdict.ON_TIME: 1}
    assert home.found(PERSON) == []
    home.batch(2, [back])
    assert home.world.reports[-1].verdicts == {Verdict.ON_TIME: 1}
    assert home.lake.read("events").filter(pc.equal(home.lake.read("events")["user_id"], PERSON)).num_rows == 1


def test_a_stream_that_runs_obeys_before_anything_is_deleted(home):
    writing, go_on = threading.Event(), threading.Event()

    class Slow(Parts):
        def collect(self):
            writing.set()
            assert go_on.wait(10)
            return super().collect()

    batch = threading.Thread(target=lambda: home.processor.process(Slow(searches([5], PERSON), 1), 1))
    batch.start()
    assert writing.wait(10)
    done = []
    erasing = threading.Thread(target=lambda: done.append(home.erase(clock=lambda: home.world.time)))
    erasing.start()
    time.sleep(0.5)
    assert not done, "the batch under way does not know of the tombstone yet"
    go_on.set()
    batch.join(20)
    while not done and erasing.is_alive():
        home.processor.acknowledge_if_idle()
        time.sleep(0.05)
    erasing.join(20)
    assert done
    assert home.found(PERSON) == []


def test_a_stream_that_does_not_obey_is_named(home):
    with pytest.raises(
        StackUnavailable, match=r"test has not obeyed the tombstone within 0 s; .*run `stillpoint erase` again"
    ):
        home.erase(clock=lambda: home.world.time, wait_seconds=0.3)


def test_a_fill_under_way_ends_first(home):
    home.processor._lease.release()
    fill = Lease(
        home.lake.objects, "release", holder="a fill", ttl=timedelta(minutes=5), clock=lambda: datetime.now(UTC)
    )
    fill.acquire()
    done = []
    erasing = threading.Thread(target=lambda: done.append(home.erase()))
    erasing.start()
    time.sleep(1.0)
    assert not done
    home.made.user(PERSON, sequence_id=1)  # what a fill wrote from files that it had opened before
    fill.release()
    erasing.join(20)
    assert done
    assert home.found(PERSON) == []


def test_a_backfill_that_read_before_is_waited_for_and_its_rows_go_too(home):
    home.processor._lease.release()
    done, clock = [], lambda: datetime.now(UTC)
    rows = home.lake.read("features/session_bounce_rates")
    with announced(home.lake.objects, "stillpoint backfill", clock=clock):
        with pytest.raises(
            StackUnavailable, match=r"stillpoint backfill, process \d+ .* may still write the person anew"
        ):
            home.erase(wait_seconds=0.3)
        erasing = threading.Thread(target=lambda: done.append(home.erase()))
        erasing.start()
        time.sleep(0.7)
        assert not done
        file = home.lake.write("features/session_bounce_rates", NOW.date(), "backfill-late", rows)
        home.lake.commit(Commit(writer="backfill-late", sequence=0, at=NOW, files=(file,)))
    erasing.join(20)
    assert done
    assert home.found(PERSON) == []
    assert under_way(home.lake.objects, clock=clock) == []
    assert list(home.lake.objects.list("leases/under_way/")) == []


def test_a_run_that_was_killed_is_waited_for_no_longer_than_its_lease(home):
    def clock():
        return datetime.now(UTC)

    Lease(home.lake.objects, "under_way/k", holder="killed", ttl=timedelta(seconds=30), clock=clock).acquire()
    assert [one.holder for one in under_way(home.lake.objects, clock=clock)] == ["killed"]
    assert under_way(home.lake.objects, clock=lambda: datetime.now(UTC) + timedelta(seconds=31)) == []


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
            patch.setattr(f"validation.erasure.run.{step}", kill)
        with pytest.raises(Killed):
            home.erase()
    home.erase()
    assert home.found(PERSON) == []
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
        return found if name not in ("put", "create", "delete") else lambda *what: self._write(found, *what)

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
                Lake(dying),
                PERSON,
                clock=lambda minutes=minutes: datetime.now(UTC) + minutes,
                settle_seconds=0.0,
            )
            break
        except Dead:
            assert home.kept(OTHER) == before
    assert nth > 12, "the test must kill at many writes"
    assert receipt.models == (home.made.bundle.key,), "what a killed run found out is told by the one that completes"
    assert home.kept(OTHER) == before
    assert home.found(PERSON) == []


def test_rows_of_a_snapshot_that_was_never_completed_go_too(home):
    home.processor._lease.release()
    rows = home.lake.objects.get("snapshots/s1/rows.parquet")
    home.lake.objects.put("snapshots/killed/rows.parquet", rows)
    home.erase()
    assert home.found(PERSON) == []


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


def test_compacted_days_are_rewritten_at_their_path(home):
    home.processor._lease.release()
    compact(home.lake, before=NOW.date() + timedelta(days=2), at=NOW)
    path = f"tables/events/date={NOW.date()}/rows.parquet"
    assert pq.read_table(io.BytesIO(home.lake.objects.get(path))).num_rows == 3
    home.erase()
    assert home.found(PERSON) == []
    left = pq.read_table(io.BytesIO(home.lake.objects.get(path)))
    assert left["user_id"].to_pylist() == [OTHER]
    assert Lake(home.lake.objects).read("events").num_rows == 1
    assert reconcile(Lake(home.lake.objects), {}).unequal_commits == []


def test_foreign_and_damaged_files_are_named_and_left(home):
    home.processor._lease.release()
    sink = io.BytesIO()
    pq.write_table(pa.table({"user_id": [PERSON]}), sink)
    home.lake.objects.put("elsewhere/people.parquet", sink.getvalue())
    home.lake.objects.put(f"events/date={NOW.date()}/torn.parquet", b"PAR1 not really")
    receipt = home.erase()
    assert [one.partition(":")[0] for one in receipt.skipped] == [
        "elsewhere/people.parquet",
        f"events/date={NOW.date()}/torn.parquet",
    ]
    assert home.lake.objects.get(f"events/date={NOW.date()}/torn.parquet") == b"PAR1 not really"
    assert home.found(PERSON) == ["elsewhere/people.parquet"]


def archive(mapping):
    """Return what a training job leaves: a bundle, and who has which place in it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as packed:
        for name, data in (("m.tar.gz", b"a bundle"), ("mapping.json", json.dumps(mapping).encode())):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def test_what_training_jobs_and_killed_writers_left_goes_too(home):
    home.processor._lease.release()
    objects, folder = home.lake.objects, Path(home.lake.root)
    objects.put("sagemaker/job-1/output/model.tar.gz", archive({"user_ids": [OTHER, PERSON]}))
    objects.put("sagemaker/job-2/output/model.tar.gz", archive({"user_ids": [OTHER]}))
    mapping = home.lake.read("mappings/1")
    killed = home.lake.write("mappings/7", NOW.date(), "killed-before-its-commit", mapping)
    staged = folder / "served" / ".staged-k1ll3d"
    staged.write_bytes(PERSON.encode())
    an_hour_ago = time.time() - 3_600
    os.utime(staged, (an_hour_ago, an_hour_ago))
    writing = folder / "served" / ".staged-n0w"
    writing.write_bytes(b"of a stream that obeys the tombstone already")
    os.utime(writing, (time.time() + 60, time.time() + 60))
    receipt = home.erase()
    assert {path.name for path in folder.rglob(".staged-*")} == {".staged-n0w"}
    assert list(objects.list("sagemaker/")) == ["sagemaker/job-2/output/model.tar.gz"]
    assert killed.path not in list(objects.list("mappings/7"))
    counts = {(one.place, one.what): one.count for one in receipt.removed}
    assert counts["lake: artifacts of training jobs", "old files deleted or rewritten"] == 1
    assert counts["lake", "writes that were killed, whoever they were about"] == 1
    assert receipt.skipped == ()
    assert home.found(PERSON) == []


def test_an_id_that_a_client_wrote_with_escapes_is_found_in_quarantine(home):
    home.processor._lease.release()
    home.processor = home.world.processor()
    escaped = Record("s0", "70", "somebody", to_micros(NOW), b'{"user_id": "\\u0075\\u0031", "type": "?"}')
    home.batch(1, [escaped])
    assert home.lake.read("quarantine").num_rows == 3
    home.processor._lease.release()
    home.erase()
    assert home.lake.read("quarantine")["partition_key"].to_pylist() == [OTHER]


def test_foreign_files_of_any_kind_are_named_if_they_speak_of_the_person_and_never_touched(home, tmp_path):
    home.processor._lease.release()
    sink = io.BytesIO()
    pq.write_table(pa.table({"member": [PERSON, OTHER]}), sink)
    foreign = {
        "crm/members.parquet": sink.getvalue(),
        "events/notes.csv": f"id,note\n{PERSON},called\n".encode(),
        "dumps/all.json.gz": gzip.compress(json.dumps([{"id": PERSON}]).encode()),
        f"letters/{PERSON}.txt": b"dear you",
        "dumps/torn.csv.gz": b"no gzip",
        "sagemaker/job-9/output/model.tar.gz": b"no archive",
    }
    silent = {"dumps/others.csv": f"{OTHER},{PERSON}0,x{PERSON}\n".encode()}
    for key, data in (foreign | silent).items():
        home.lake.objects.put(key, data)
    counts = export(home.settings, home.lake, PERSON, tmp_path / "mine.zip", now=NOW)
    assert counts["foreign files"] == len(foreign)
    with zipfile.ZipFile(tmp_path / "mine.zip") as mine:
        assert "crm/members.parquet: holds the person" in mine.read("elsewhere.txt").decode()
    receipt = home.erase()
    assert {line.partition(":")[0] for line in receipt.skipped} == set(foreign)
    assert {key: home.lake.objects.get(key) for key in foreign | silent} == foreign | silent


def test_an_unknown_person_gets_a_receipt_that_says_so_and_a_malformed_id_is_refused(home):
    home.processor._lease.release()
    before = {key: home.lake.objects.get(key) for key in home.lake.objects.list("features/")}
    receipt = home.erase("nobody")
    assert not receipt.found
    assert receipt.removed == ()
    assert before == {key: home.lake.objects.get(key) for key in home.lake.objects.list("features/")}
    for bad in ("", "a\nb", " u1", "x" * 300):
        with pytest.raises(InvalidInput, match="is malformed; expected 1 to 256 printable characters"):
            home.erase(bad)


def test_the_lake_and_the_online_store_still_agree(home):
    home.processor._lease.release()
    home.erase()
    views = [view.name for view in STREAMED_VIEWS]
    found = reconcile(Lake(home.lake.objects), {PROJECT: (home.redis, views)})
    assert found.unequal_commits == []
    for view in views:
        compared = found.views[f"{PROJECT}/{view}"]
        assert compared.different + compared.missing == 0


def test_nobody_can_test_an_id_against_tombstones_without_the_key(home):
    home.processor._lease.release()
    receipt = home.erase()
    assert receipt.person not in {hashlib.sha256(PERSON.encode()).hexdigest(), hashlib.md5(PERSON.encode()).hexdigest()}
    with pytest.raises(InvalidSettings, match="made with another key"):
        read_tombstones(home.lake.objects, b"another key")
    known = read_tombstones(home.lake.objects, erasure_key(home.settings))
    assert known.until_us(PERSON) == to_micros(receipt.erased_until)
    assert repr(erasure_key(home.settings)) not in repr(known)


def test_serving_knows_at_once_and_also_after_redis_has_forgotten(home):
    home.processor._lease.release()
    objects, key = home.lake.objects, erasure_key(home.settings)
    asked = Erased(home.redis, objects, key, lambda: NOW)
    moment = to_micros(NOW)
    assert not asked(PERSON, moment)
    home.erase()
    assert asked(PERSON, moment)
    assert not asked(OTHER, moment)
    assert not asked(PERSON, to_micros(datetime.now(UTC)) + 60_000_000)
    home.redis.delete("stillpoint:erased")
    assert Erased(home.redis, objects, key, lambda: NOW)(PERSON, moment)


def test_an_export_holds_the_person_and_nobody_else(home, tmp_path):
    target = tmp_path / "mine.zip"
    counts = export(home.settings, home.lake, PERSON, target, now=NOW)
    assert counts["lake/events"] == 2
    assert counts["lake/quarantine"] == counts["lake/mappings/1"] == counts["snapshots/s1"] == 1
    with zipfile.ZipFile(target) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert all("deep sleep" in text for name, text in texts.items() if name == "lake/events.jsonl")
    online = json.loads(texts["online.json"])[PROJECT]
    assert any(name.endswith("search_count_24h") and cell["value"] == 2 for name, cell in online.items())
    assert f"stillpoint:rec:{PERSON}:today:r0001" in json.loads(texts["stored.json"])
    assert not any(mentions(OTHER).search(text.encode()) for text in texts.values())
    with pytest.raises(InvalidInput, match="exists already"):
        export(home.settings, home.lake, PERSON, target, now=NOW)


def test_a_damaged_file_is_named_in_the_archive_and_the_rest_is_there(home, tmp_path):
    path = next(file.path for file in home.lake.files("features/session_bounce_rates"))
    home.lake.objects.put(path, b"PAR1 not really")
    (gone,) = (file.path for file in home.lake.files("served"))
    home.lake.objects.delete(gone)
    counts = export(home.settings, home.lake, PERSON, tmp_path / "mine.zip", now=NOW)
    assert (counts["unreadable files"], counts["lake/events"]) == (2, 2)
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        told = archive.read("unreadable.txt").decode().splitlines()
    assert {line.partition(":")[0] for line in told} == {path, gone}
    assert home.lake.objects.get(path) == b"PAR1 not really"


def test_after_an_erasure_there_is_nothing_to_export(home, tmp_path):
    home.processor._lease.release()
    home.erase()
    assert set(export(home.settings, home.lake, PERSON, tmp_path / "e.zip", now=NOW).values()) == {0}
