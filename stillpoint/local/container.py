"""A SageMaker model container as a plain process.

The artifact (`model.tar.gz` in S3, or a folder's file) is unpacked, and the program is started with SageMaker's contract
mapped from /opt/ml to folders by environment variables: `SM_MODEL_DIR` / `STILLPOINT_MODEL_DIR`, and the port in
`SAGEMAKER_BIND_TO_PORT` / `STILLPOINT_MODEL_PORT`. It is healthy once `GET /ping` says 200.
"""

import io
import os
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from stillpoint.errors import CorruptData, InvalidInput, StackUnavailable
from stillpoint.local.process import Child, free_port

Fetch = Callable[[str], bytes]
"""Returns the bytes at an `s3://` address."""

Store = Callable[[str, bytes], None]
"""Writes an object to an `s3://` address."""

FetchAll = Callable[[str], Mapping[str, bytes]]
"""Returns the objects below an `s3://` prefix, by their names below it."""


class Starter:
    """A thread that lives as long as the program and starts every child.

    The kernel ends a child together with the thread that started it, and the threads that answer requests are brief.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Child], SimpleQueue[Child | BaseException]]] = SimpleQueue()
        threading.Thread(target=self._run, name="starter", daemon=True).start()

    def start(self, begin: Callable[[], Child]) -> Child:
        """Call `begin` in the long-lived thread and return its child, or raise what it raised."""
        answer: SimpleQueue[Child | BaseException] = SimpleQueue()
        self._work.put((begin, answer))
        outcome = answer.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _run(self) -> None:
        while True:
            begin, answer = self._work.get()
            try:
                answer.put(begin())
            except (StackUnavailable, OSError) as error:
                answer.put(error)


class Container:
    """One running model server. Counts the requests inside, so that it can be drained."""

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self._port = port
        self._inside = 0
        self._idle = threading.Condition()

    @classmethod
    def start(
        cls,
        starter: Starter,
        name: str,
        command: Sequence[str],
        folder: Path,
        artifact: bytes | None,
        *,
        environment: Mapping[str, str],
        seconds: float = 60.0,
    ) -> "Container":
        """Unpack the artifact into `folder`, start the program and wait for its first good ping.

        Raises:
            CorruptData: the artifact is no tar.gz. StackUnavailable: the program ended, or never became healthy.
        """
        model = folder / "model"
        model.mkdir(parents=True, exist_ok=True)
        if artifact is not None:
            unpack(artifact, model)
        port = free_port()
        variables = {
            **os.environ,
            **environment,
            "SM_MODEL_DIR": str(model),
            "STILLPOINT_MODEL_DIR": str(model),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "STILLPOINT_MODEL_PORT": str(port),
        }
        child = starter.start(lambda: Child(name, command, log=folder / "container.log", environment=variables))
        container = cls(child, port)
        child.wait_until(container.healthy, seconds=seconds)
        return container

    def healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ping", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def running(self) -> bool:
        return self._child.exit_code() is None

    def last_words(self) -> str:
        return self._child.last_words()

    def invoke(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Forward one request; return the container's status, content type and body.

        Raises:
            OSError: it does not answer.
        """
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/invocations", data=body, headers=dict(headers), method="POST"
        )
        with self._idle:
            self._inside += 1
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Content-Type", ""), error.read()
        finally:
            with self._idle:
                self._inside -= 1
                self._idle.notify_all()

    def drain(self, seconds: float = 60.0) -> None:
        """Stop it once no request is inside, or after `seconds`. The caller sends it no more."""
        with self._idle:
            self._idle.wait_for(lambda: self._inside == 0, timeout=seconds)
        self._child.stop()


def unpack(artifact: bytes, folder: Path) -> None:
    """Unpack a tar.gz into a folder; entries that would land outside are refused.

    Raises:
        CorruptData: it is no tar.gz, or not a safe one.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(artifact), mode="r:gz") as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorruptData(f"the model artifact cannot be unpacked: {error}; expected a tar.gz") from None


def fetch_with(s3: object) -> Fetch:
    """Return a `Fetch` over a boto3 S3 client."""

    def fetch(address: str) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, key = address.removeprefix("s3://").partition("/")
        if not address.startswith("s3://") or not key:
            raise InvalidInput(f"the artifact is at {address!r}; expected s3://bucket/key")
        try:
            return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())  # type: ignore[attr-defined]
        except (ClientError, BotoCoreError) as error:
            raise StackUnavailable(f"the artifact {address} cannot be read: {error}") from None

    return fetch


def store_with(aws: dict[str, str]) -> Store:
    """Return a `Store`; `aws` holds boto3's arguments."""

    def store(address: str, data: bytes) -> None:
        from stillpoint.lake.objects import open_objects

        folder, _, name = address.rpartition("/")
        open_objects(folder, aws).put(name, data)

    return store


def fetch_all_with(aws: dict[str, str]) -> FetchAll:
    """Return a `FetchAll`; `aws` holds boto3's arguments."""

    def fetch_all(address: str) -> dict[str, bytes]:
        from stillpoint.lake.objects import open_objects

        objects = open_objects(address.rstrip("/"), aws)
        return {key: objects.get(key) for key in objects.list("")}

    return fetch_all
