"""An export holds all of one user, and nothing of any other."""

import json
import zipfile

import pytest

from privacy.erasure.rows import mentions
from privacy.export import export
from stillpoint.errors import InvalidInput
from tests.support.known_users import OTHER, PROJECT, USER


def test_an_export_holds_the_user_and_nobody_else(home, tmp_path):
    target = tmp_path / "mine.zip"
    counts = export(home.settings, home.lake, USER, target, now=home.now)
    assert counts["lake/events"] == 2
    assert counts["lake/quarantine"] == counts["lake/mappings/1"] == counts["snapshots/s1"] == 1
    with zipfile.ZipFile(target) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert all("deep sleep" in text for name, text in texts.items() if name == "lake/events.jsonl")
    online = json.loads(texts["online.json"])[PROJECT]
    assert any(name.endswith("search_count_24h") and cell["value"] == 2 for name, cell in online.items())
    assert f"stillpoint:rec:{USER}:today:r0001" in json.loads(texts["stored.json"])
    assert not any(mentions(OTHER).search(text.encode()) for text in texts.values())
    with pytest.raises(InvalidInput, match="exists already"):
        export(home.settings, home.lake, USER, target, now=home.now)


def test_a_damaged_file_is_named_in_the_archive_and_the_rest_is_there(home, tmp_path):
    path = next(file.path for file in home.lake.files("features/session_bounce_rates"))
    home.lake.objects.put(path, b"PAR1 not really")
    (gone,) = (file.path for file in home.lake.files("served"))
    home.lake.objects.delete(gone)
    counts = export(home.settings, home.lake, USER, tmp_path / "mine.zip", now=home.now)
    assert (counts["unreadable files"], counts["lake/events"]) == (2, 2)
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        told = archive.read("unreadable.txt").decode().splitlines()
    assert {line.partition(":")[0] for line in told} == {path, gone}
    assert home.lake.objects.get(path) == b"PAR1 not really"


def test_after_an_erasure_there_is_nothing_to_export(home, tmp_path):
    home.processor._lease.release()
    home.erase()
    assert set(export(home.settings, home.lake, USER, tmp_path / "e.zip", now=home.now).values()) == {0}
