"""Whole objects by key, alike in a folder and in S3.

`Objects` is the only interface to the lake's files: whole objects by key, and creation that fails if the key exists. Keys are
relative, with `/`. `open_objects` returns the implementation that a root asks for.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow.fs as pafs

from stillpoint.errors import AlreadyExists, ObjectMissing, StackUnavailable
from stillpoint.lake.arrow_s3 import arrow_s3
from stillpoint.outages import aws_errors

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client

CONFLICT_TRIES = 6
_CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OldVersion:
    """A version that a versioned bucket keeps of an object that was deleted or replaced."""

    key: str
    id: str
    size: int


class Objects(Protocol):
    """Whole objects by key. Reads see every completed write; a store that is away is `StackUnavailable`."""

    root: str

    def get(self, key: str) -> bytes:
        """Return the object's bytes.

        Raises:
            ObjectMissing: there is none.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the object, replacing any; a reader sees the old or the new one, never a part."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Write a file's bytes as `put` does, without holding them in memory."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Write the object only if the key is free, in one step.

        If an earlier attempt's answer was lost, the key may hold the caller's own object: read it back and compare.

        Raises:
            AlreadyExists: the key is taken.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens if there is none."""
        ...

    def arrow(self) -> tuple[pafs.FileSystem, str]:
        """Return a pyarrow filesystem and the path of the root within it, for Parquet in place."""
        ...


class LocalObjects:
    """Objects as files below a folder. Creation is an exclusive hard link; writes are fsynced, then renamed."""

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder).absolute()
        self.root = str(self._folder)

    def _path(self, key: str) -> Path:
        return self._folder / key

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectMissing(f"no object {key} under {self.root}") from None

    def put(self, key: str, data: bytes) -> None:
        staged = self._stage(key, (data,))
        os.replace(staged, self._path(key))

    def put_file(self, key: str, path: Path) -> None:
        with open(path, "rb") as source:
            staged = self._stage(key, iter(lambda: source.read(_CHUNK), b""))
        os.replace(staged, self._path(key))

    def create(self, key: str, data: bytes) -> None:
        staged = self._stage(key, (data,))
        try:
            os.link(staged, self._path(key))
        except FileExistsError:
            raise AlreadyExists(f"object {key} exists already under {self.root}") from None
        finally:
            os.unlink(staged)

    def list(self, prefix: str) -> Iterator[str]:
        base = self._folder / prefix
        start = base if prefix.endswith("/") or not prefix else base.parent
        found = []
        for folder, _, names in os.walk(start):
            for name in names:
                key = os.path.relpath(os.path.join(folder, name), self._folder)
                if key.startswith(prefix) and not name.startswith(".staged-"):
                    found.append(key)
        yield from sorted(found)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def arrow(self) -> tuple[pafs.FileSystem, str]:
        return pafs.LocalFileSystem(), self.root

    def _stage(self, key: str, parts: Iterable[bytes]) -> str:
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".staged-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(name)
            raise
        return name


class S3Objects:
    """Objects in an S3 bucket below a prefix. Creation is a conditional put (`If-None-Match: *`)."""

    def __init__(
        self, client: "S3Client", bucket: str, prefix: str = "", *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._sleep = sleep
        self.root = f"s3://{bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str) -> bytes:
        try:
            with aws_errors(self.root):
                return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            raise ObjectMissing(f"no object {key} under {self.root}") from None

    def put(self, key: str, data: bytes) -> None:
        with aws_errors(self.root):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def put_file(self, key: str, path: Path) -> None:
        from boto3.exceptions import S3UploadFailedError

        with aws_errors(self.root):
            try:
                self._client.upload_file(str(path), self._bucket, self._prefix + key)  # in parts, and whole at the end
            except S3UploadFailedError as failed:
                raise failed.__context__ or failed from None

    def create(self, key: str, data: bytes) -> None:
        from botocore.exceptions import ClientError

        for attempt in range(CONFLICT_TRIES):
            try:
                with aws_errors(self.root):
                    self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*")
                return
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                    raise AlreadyExists(f"object {key} exists already under {self.root}") from None
                raise
            except StackUnavailable as error:
                # 409: another put or delete of the key was under way at this moment. Whether it is taken is not known yet.
                if attempt == CONFLICT_TRIES - 1 or not _conflict(error.__cause__):
                    raise
                self._sleep(0.05 * 2**attempt)

    def list(self, prefix: str) -> Iterator[str]:
        with aws_errors(self.root):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield item["Key"][len(self._prefix) :]

    def delete(self, key: str) -> None:
        with aws_errors(self.root):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def versioned(self) -> bool:
        """Say whether the bucket keeps, or has kept, versions of what is deleted or replaced."""
        with aws_errors(self.root):
            return "Status" in self._client.get_bucket_versioning(Bucket=self._bucket)

    def old_versions(self, prefix: str = "") -> Iterator[OldVersion]:
        """Yield the versions below `prefix` that no read sees any more."""
        with aws_errors(self.root):
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Versions", ()):
                    if not item["IsLatest"]:
                        yield OldVersion(item["Key"][len(self._prefix) :], item["VersionId"], item["Size"])

    def get_version(self, version: OldVersion) -> bytes:
        """Return an old version's bytes.

        Raises:
            ObjectMissing: it has been deleted.
        """
        try:
            with aws_errors(self.root):
                return self._client.get_object(
                    Bucket=self._bucket, Key=self._prefix + version.key, VersionId=version.id
                )["Body"].read()
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchVersion", "NoSuchKey"):
                raise
            raise ObjectMissing(f"no version {version.id} of {version.key} under {self.root}") from None

    def delete_version(self, version: OldVersion) -> None:
        """Remove an old version for good."""
        with aws_errors(self.root):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + version.key, VersionId=version.id)

    def arrow(self) -> tuple[pafs.FileSystem, str]:
        return arrow_s3(self._client), f"{self._bucket}/{self._prefix}".rstrip("/")


def _conflict(error: BaseException | None) -> bool:
    """Return whether S3 refused a conditional put because of a concurrent request for the same key."""
    response = getattr(error, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 409)


def open_objects(root: str, aws: dict[str, Any] | None = None) -> Objects:
    """Return the objects below `root`: `s3://bucket/prefix`, `file:///folder` or a folder.

    `aws` holds keyword arguments for the boto3 client, such as `endpoint_url`.
    """
    if root.startswith("s3://"):
        from botocore.config import Config

        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        if not bucket:
            raise StackUnavailable(f"the lake {root!r} names no bucket; expected s3://bucket/prefix")
        config = Config(
            retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30, max_pool_connections=32
        )
        client: S3Client = aws_session().client("s3", config=config, **(aws or {}))
        return S3Objects(client, bucket, prefix)
    return LocalObjects(root.removeprefix("file://"))


@cache
def aws_session() -> "boto3.Session":
    """Return a session that takes AWS_REGION for the region as other SDKs do, and leaves times as text: nobody here asks
    for them, and parsing them is most of a listing's work."""
    import boto3
    import botocore.session

    region: Any = ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)
    session = botocore.session.get_session({"region": region})
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return boto3.Session(botocore_session=session)
