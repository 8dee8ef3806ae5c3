"""Which files of the lake mention a user, and what becomes of each kind."""

import gzip
import io
import json
import os
import tarfile
import time
import zipfile
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.compact import compact
from ingestion.kinesis_shards import Record
from ingestion.reconcile import reconcile
from privacy.export import export
from stillpoint.clock import to_micros
from stillpoint.lake.tables import Lake
from tests.support.known_users import OTHER, USER
from tests.support.wellness import FEATURES


def test_compacted_days_are_rewritten_at_their_path(home):
    home.processor._lease.release()
    compact(home.lake, before=home.now.date() + timedelta(days=2), at=home.now)
    path = f"tables/events/date={home.now.date()}/rows.parquet"
    assert pq.read_table(io.BytesIO(home.lake.objects.get(path))).num_rows == 3
    home.erase()
    assert home.found(USER) == []
    left = pq.read_table(io.BytesIO(home.lake.objects.get(path)))
    assert left["user_id"].to_pylist() == [OTHER]
    assert Lake(home.lake.objects, FEATURES).read("events").num_rows == 1
    assert reconcile(Lake(home.lake.objects, FEATURES), {}).unequal_commits == []


def test_foreign_and_damaged_files_are_named_and_left(home):
    home.processor._lease.release()
    sink = io.BytesIO()
    pq.write_table(pa.table({"user_id": [USER]}), sink)
    home.lake.objects.put("elsewhere/users.parquet", sink.getvalue())
    home.lake.objects.put(f"events/date={home.now.date()}/torn.parquet", b"PAR1 not really")
    receipt = home.erase()
    assert [one.partition(":")[0] for one in receipt.skipped] == [
        "elsewhere/users.parquet",
        f"events/date={home.now.date()}/torn.parquet",
    ]
    assert home.lake.objects.get(f"events/date={home.now.date()}/torn.parquet") == b"PAR1 not really"
    assert home.found(USER) == ["elsewhere/users.parquet"]


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
    objects.put("sagemaker/job-1/output/model.tar.gz", archive({"user_ids": [OTHER, USER]}))
    objects.put("sagemaker/job-2/output/model.tar.gz", archive({"user_ids": [OTHER]}))
    mapping = home.lake.read("mappings/1")
    killed = home.lake.write("mappings/7", home.now.date(), "killed-before-its-commit", mapping)
    staged = folder / "served" / ".staged-k1ll3d"
    staged.write_bytes(USER.encode())
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
    assert home.found(USER) == []


def test_an_id_that_a_client_wrote_with_escapes_is_found_in_quarantine(home):
    home.processor._lease.release()
    home.processor = home.world.processor()
    escaped = Record("s0", "70", "somebody", to_micros(home.now), b'{"user_id": "\\u0075\\u0031", "type": "?"}')
    home.batch(1, [escaped])
    assert home.lake.read("quarantine").num_rows == 3
    home.processor._lease.release()
    home.erase()
    assert home.lake.read("quarantine")["partition_key"].to_pylist() == [OTHER]


def test_foreign_files_of_any_kind_are_named_if_they_speak_of_the_user_and_never_touched(home, tmp_path):
    home.processor._lease.release()
    sink = io.BytesIO()
    pq.write_table(pa.table({"member": [USER, OTHER]}), sink)
    foreign = {
        "crm/members.parquet": sink.getvalue(),
        "events/notes.csv": f"id,note\n{USER},called\n".encode(),
        "dumps/all.json.gz": gzip.compress(json.dumps([{"id": USER}]).encode()),
        f"letters/{USER}.txt": b"dear you",
        "dumps/torn.csv.gz": b"no gzip",
        "sagemaker/job-9/output/model.tar.gz": b"no archive",
    }
    silent = {"dumps/others.csv": f"{OTHER},{USER}0,x{USER}\n".encode()}
    for key, data in (foreign | silent).items():
        home.lake.objects.put(key, data)
    counts = export(home.settings, home.lake, USER, tmp_path / "mine.zip", now=home.now)
    assert counts["foreign files"] == len(foreign)
    with zipfile.ZipFile(tmp_path / "mine.zip") as mine:
        assert "crm/members.parquet: holds the user" in mine.read("elsewhere.txt").decode()
    receipt = home.erase()
    assert {line.partition(":")[0] for line in receipt.skipped} == set(foreign)
    assert {key: home.lake.objects.get(key) for key in foreign | silent} == foreign | silent
