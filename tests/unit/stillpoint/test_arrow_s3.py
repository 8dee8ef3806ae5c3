"""Arrow's S3 filesystem goes on when the credentials with which it began have ended."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from stillpoint.lake.arrow_s3 import Keys, RenewingFileSystem, s3_filesystem

ARGUMENTS = {"region": "us-east-1", "endpoint_override": "127.0.0.1:9", "scheme": "http"}


class Role:
    """Credentials that a role gives out for a while, each time others."""

    def __init__(self) -> None:
        self.given = 0

    def fetch(self) -> dict[str, str]:
        self.given += 1
        end = datetime.now(UTC) + timedelta(hours=1)
        named = {name: f"{name} {self.given}" for name in ("access_key", "secret_key", "token")}
        return named | {"expiry_time": end.isoformat()}

    def credentials(self) -> Any:
        return RefreshableCredentials.create_from_metadata(self.fetch(), self.fetch, "sts")


class Disk:
    """A filesystem on disk that opens only with the newest keys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys: Keys = ("key", "secret", "token 1")
        self.made: list[Keys] = []

    def make(self, keys: Keys) -> pafs.FileSystem:
        self.made.append(keys)
        return pafs.SubTreeFileSystem(str(self.root), pafs.LocalFileSystem())

    def filesystem(self) -> pafs.FileSystem:
        return pafs.PyFileSystem(RenewingFileSystem(lambda: self.keys, self.make))


def test_credentials_of_a_role_are_renewed_before_they_end_and_fixed_ones_stay() -> None:
    role = Role()
    credentials = role.credentials()
    renewing = s3_filesystem(credentials, ARGUMENTS)
    assert isinstance(renewing, pafs.PyFileSystem)
    first = renewing.handler.now
    assert renewing.handler.now is first
    credentials._expiry_time = datetime.now(UTC) + timedelta(minutes=5)
    assert renewing.handler.now is not first
    assert role.given == 2
    assert isinstance(s3_filesystem(Credentials("a", "b", "c"), ARGUMENTS), pafs.S3FileSystem)
    assert isinstance(s3_filesystem(None, ARGUMENTS), pafs.S3FileSystem)


def test_a_long_scan_reads_each_file_with_the_keys_of_the_moment(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    filesystem = disk.filesystem()
    for number in range(3):
        disk.keys = ("key", "secret", f"token {number}")
        with filesystem.open_output_stream(f"{number}.parquet") as file:
            pq.write_table(pa.table({"n": [number]}), file)
    paths = [f"{number}.parquet" for number in range(3)]
    found = []
    dataset = pads.dataset(paths, filesystem=filesystem, format="parquet")
    for number, fragment in enumerate(dataset.get_fragments()):
        disk.keys = ("key", "secret", f"later {number}")
        found += fragment.to_table()["n"].to_pylist()
    assert found == [0, 1, 2]
    assert [keys[2] for keys in disk.made] == ["token 0", "token 1", "token 2", "later 0", "later 1", "later 2"]


def test_everything_that_is_done_with_a_filesystem_is_handed_on(tmp_path: Path) -> None:
    filesystem = Disk(tmp_path).filesystem()
    filesystem.create_dir("a/b")
    with filesystem.open_output_stream("a/b/one.gz", compression=None) as file:
        file.write(b"plain")
    filesystem.copy_file("a/b/one.gz", "a/two")
    filesystem.move("a/two", "a/three")
    listed = filesystem.get_file_info(pafs.FileSelector("a", recursive=True))
    assert sorted(info.path for info in listed) == ["a/b", "a/b/one.gz", "a/three"]
    assert (tmp_path / "a/b/one.gz").read_bytes() == b"plain"
    with filesystem.open_input_stream("a/three", compression=None) as file:
        assert file.read() == b"plain"
    filesystem.delete_file("a/three")
    filesystem.delete_dir("a")
    assert filesystem.get_file_info("a").type is pafs.FileType.NotFound
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_file("a/three")
