"""The key of tombstones is secret, the same for every process, and never taken for another."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from stillpoint.errors import CorruptData, InvalidSettings
from stillpoint.lake.objects import LocalObjects
from stillpoint.settings import Settings
from stillpoint.tombstones import bury, erasure_key, read_tombstones

AT = datetime(2026, 11, 21, tzinfo=UTC)


def settings(folder, **changes):
    return Settings(_env_file=None, **{"home": folder / "home", "lake": str(folder / "lake"), **changes})


def test_a_home_gets_one_key_that_only_its_owner_reads_however_many_ask_first(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: erasure_key(settings(tmp_path)), range(32)))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    (made,) = (tmp_path / "home").iterdir()
    assert (made.name, stat.S_IMODE(made.stat().st_mode)) == ("erasure.key", 0o600)
    assert erasure_key(settings(tmp_path / "other")) != erasure_key(settings(tmp_path))


def test_a_key_that_is_set_wins_and_nothing_is_made(tmp_path):
    assert erasure_key(settings(tmp_path, erasure_key="swordfish")) == b"swordfish"
    assert not (tmp_path / "home").exists()


def test_real_s3_without_a_key_is_refused_in_a_sentence(tmp_path):
    real = settings(tmp_path, lake="s3://bucket/lake", aws_endpoint_url="aws")
    with pytest.raises(InvalidSettings, match=r"STILLPOINT_ERASURE_KEY is missing; .*make it once .*set it everywhere"):
        erasure_key(real)


def test_an_emptied_key_file_is_refused_and_not_made_anew(tmp_path):
    erasure_key(settings(tmp_path))
    (tmp_path / "home" / "erasure.key").write_text("")
    with pytest.raises(InvalidSettings, match=r"erasure.key is empty; restore it"):
        erasure_key(settings(tmp_path))


def test_another_key_is_told_and_adds_no_tombstone(tmp_path):
    objects = LocalObjects(tmp_path)
    bury(objects, b"one", ["u1"], AT)
    before = list(objects.list(""))
    for use in (lambda: read_tombstones(objects, b"two"), lambda: bury(objects, b"two", ["u2"], AT)):
        with pytest.raises(InvalidSettings, match=r"made with another key; .*the erased would come back"):
            use()
    assert list(objects.list("")) == before
    assert read_tombstones(objects, b"one").until_us("u1") is not None


def test_a_foreign_object_among_tombstones_is_named(tmp_path):
    objects = LocalObjects(tmp_path)
    objects.put("erasures/notes.txt", b"hello")
    with pytest.raises(CorruptData, match=r"erasures/notes.txt is no tombstone; move it away"):
        read_tombstones(objects, b"one")
