"""A file is never found half written, whenever its writer dies."""

import os
import signal
import subprocess
import sys

import pytest

from stillpoint.lake.files import write_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from stillpoint.lake.files import write_whole
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), "new" * 100_000)
"""


def test_a_writer_that_is_killed_leaves_the_old_file_and_the_next_one_replaces_it(tmp_path):
    page = tmp_path / "page.html"
    write_whole(page, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(page)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert page.read_text() == "old"
    write_whole(page, b"new")
    assert page.read_text() == "new"


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    write_whole(page, "old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(page, "new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("page.html", "old")]


def test_what_is_private_is_private_from_its_first_byte_on(tmp_path, monkeypatch):
    seen = []
    real = os.fsync

    def look(handle):
        seen.append(os.fstat(handle).st_mode & 0o777)
        real(handle)

    monkeypatch.setattr(os, "fsync", look)
    write_whole(tmp_path / "export.zip", b"mine", mode=0o600)
    assert seen == [0o600]
    assert (tmp_path / "export.zip").stat().st_mode & 0o777 == 0o600
