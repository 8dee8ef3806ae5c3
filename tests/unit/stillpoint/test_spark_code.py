"""What is sent to Spark's executors is whole, the same for the same files, and sent once."""

import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingestion.spark import _addresses
from stillpoint.settings import Settings
from stillpoint.spark_code import APP_FOLDER, ship_app, ship_packages, zipped


class Context:
    """Notes what it is asked to send."""

    def __init__(self, master: str, name: str) -> None:
        self.master, self.applicationId = master, name
        self.sent: list[str] = []
        self.addPyFile = self.addArchive = self.sent.append


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "__pycache__").mkdir(parents=True)
    for name in ("events.py", "views.py", "words.json", "__pycache__/events.pyc"):
        (folder / name).write_text(name)
    return folder


def test_a_zip_holds_the_folder_without_caches_and_its_bytes_depend_on_the_files_alone(
    app: Path, tmp_path: Path
) -> None:
    first = zipped(app, tmp_path / "a.zip").read_bytes()
    os.utime(app / "events.py", (1, 1))
    assert zipped(app, tmp_path / "b.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["shop/events.py", "shop/views.py", "shop/words.json"]


def test_code_is_sent_once_to_executors_of_their_own_and_never_to_threads_of_this_process(
    app: Path, unique: str
) -> None:
    for master, count in (("local[2]", 0), ("spark://host:7077", 2)):
        context = Context(master, f"{unique}-{master}")
        session: Any = SimpleNamespace(sparkContext=context)
        for _ in range(2):
            ship_packages(session, ("stillpoint",))
            where = ship_app(session, str(app), app)
        assert len(context.sent) == count
        assert where == (f"{APP_FOLDER}/shop" if count else str(app))


def test_the_driver_listens_on_loopback_unless_its_executors_are_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    named = Settings(_env_file=None, spark_driver_host="10.0.0.7")
    assert _addresses(named, "local[2]")["spark.driver.host"] == "127.0.0.1"
    assert _addresses(named, "spark://host:7077") == {
        "spark.driver.bindAddress": "0.0.0.0",
        "spark.driver.host": "10.0.0.7",
    }
    assert _addresses(Settings(_env_file=None), "yarn") == {}
