"""Gives Arrow's S3 filesystem the credentials of boto3, and renews them before they expire.

Arrow takes keys once, when a filesystem is created. Credentials of a role (STS, IMDS, ECS, SSO) expire after minutes or
hours, and botocore fetches new ones ten minutes before. So each operation asks botocore for the present keys first, and
creates a new filesystem if they have changed. An open file keeps the keys with which it was opened.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.fs as pafs

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Keys = tuple[str, str, str | None]
"""Access key, secret key, session token."""


def arrow_s3(client: "S3Client") -> pafs.FileSystem:
    """Return pyarrow's own S3 filesystem for the same endpoint, region and credentials as a boto3 client."""
    endpoint = urlparse(client.meta.endpoint_url)
    arguments: dict[str, Any] = {"region": client.meta.region_name}
    if not (endpoint.hostname or "").endswith("amazonaws.com"):
        arguments |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
    return s3_filesystem(client._request_signer._credentials, arguments)  # type: ignore[attr-defined]


def s3_filesystem(credentials: Any, arguments: dict[str, Any]) -> pafs.FileSystem:
    """Return Arrow's S3 filesystem with botocore's credentials, which may be None, and renewing ones if these are renewed.

    `arguments` hold everything else that `pyarrow.fs.S3FileSystem` takes.
    """
    from botocore.credentials import RefreshableCredentials

    if credentials is None:
        return pafs.S3FileSystem(**arguments)

    def keys() -> Keys:
        frozen = credentials.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    def make(found: Keys) -> pafs.FileSystem:
        access_key, secret_key, token = found
        own = {"access_key": access_key, "secret_key": secret_key} | ({"session_token": token} if token else {})
        return pafs.S3FileSystem(**arguments, **own)

    if not isinstance(credentials, RefreshableCredentials):
        return make(keys())
    return pafs.PyFileSystem(RenewingFileSystem(keys, make))


class RenewingFileSystem(pafs.FileSystemHandler):  # type: ignore[misc]
    """Delegates to a filesystem that `make` creates from `keys`, and creates a new one whenever the keys have changed."""

    def __init__(self, keys: Callable[[], Keys], make: Callable[[Keys], pafs.FileSystem]) -> None:
        self._keys = keys
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[Keys, pafs.FileSystem] | None = None

    @property
    def now(self) -> pafs.FileSystem:
        """The filesystem of the present keys."""
        keys = self._keys()
        with self._lock:
            if self._made is None or self._made[0] != keys:
                self._made = (keys, self._make(keys))
            return self._made[1]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def get_type_name(self) -> str:
        return "s3"

    def normalize_path(self, path: str) -> str:
        return str(self.now.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return list(self.now.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return list(self.now.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        self.now.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self.now.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.now.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError("nobody empties a whole bucket list")

    def delete_file(self, path: str) -> None:
        self.now.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        self.now.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self.now.copy_file(src, dest)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.now.open_input_stream(path, compression=None)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self.now.open_input_file(path)

    def open_output_stream(self, path: str, metadata: dict[str, str]) -> pa.NativeFile:
        return self.now.open_output_stream(path, compression=None, metadata=metadata)

    def open_append_stream(self, path: str, metadata: dict[str, str]) -> pa.NativeFile:
        return self.now.open_append_stream(path, compression=None, metadata=metadata)
