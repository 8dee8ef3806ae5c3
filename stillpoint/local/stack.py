"""The embedded stack of one home: its start, its stop, and how each server is.

Servers start side by side. A server that already answers and is ours is left alone; what a killed run left behind, servers
and whatever else the home started, is stopped first; a port that belongs to another program is refused, and what this call
started is stopped again. Start and stop hold a file lock, so two at once wait for each other.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pydantic import SecretStr

from stillpoint.errors import StackUnavailable
from stillpoint.feast_config import write_yamls
from stillpoint.local.process import Child, describe, identify, refuse_taken_port
from stillpoint.local.provision import provision
from stillpoint.local.records import DEMO, MARK, ProcessRecord, ProcessRecords, new_mark
from stillpoint.local.servers import Server, servers
from stillpoint.settings import Settings

NEEDED_BYTES = 200 * 1024**2


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How one server is. `pid` is None for a server that is not ours.

    `health` is `up`, `starting`, `down`, or `stopped` for one of ours that nobody has started since it was last stopped.
    """

    name: str
    title: str
    address: str
    health: str
    version: str | None
    pid: int | None
    log: str | None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process of the home that is no server of the stack: `running`, or `left behind` by a starter that was killed."""

    role: str
    address: str | None
    health: str
    pid: int
    log: str | None


class Stack:
    """The servers of one `STILLPOINT_HOME`. As a context manager it stops what it started, and nothing else."""

    def __init__(self, settings: Settings, *, detached: bool = False, on_trial: bool = False) -> None:
        """`detached` servers outlive this process; the others end with the thread that starts them, even by a crash.

        Detached ones `on_trial` are wanted only once `keep` is called: killed before that, the next `start` stops them.
        """
        self.settings = settings
        self.detached = detached
        self._wanted_for_good = detached and not on_trial
        self.cleared: list[str] = []
        """The roles of what `start` found left behind, and stopped."""
        self._records = ProcessRecords(settings.home)
        self.servers = servers(settings)
        self._started: dict[str, Child] = {}

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_started()

    def start(self, *, without: frozenset[str] = frozenset()) -> list[str]:
        """Start what does not run, wait until it answers, create bucket, stream and queues, write Feast's yaml files.

        `without` names servers to leave as they are. Returns the titles of the servers that this call started; none if
        all ran. MLflow is not waited for.

        Raises:
            StackUnavailable: a server could not start; those that this call started are stopped again.
        """
        with self._lock():
            self._refuse_full_disk()
            self.cleared += self._stop_left_behind()
            begun: list[tuple[Server, Child]] = []
            try:
                for server in self.servers:
                    child = None if server.name in without else self._begin(server)
                    if child is not None:
                        begun.append((server, child))
                for server, child in begun:
                    if server.awaited:
                        child.wait_until(lambda server=server: server.version() is not None, seconds=server.seconds)  # type: ignore[misc]
                if self.settings.aws_endpoint_url:
                    provision(self.settings)
                self._write_yamls()
            except BaseException:
                self.stop_started()
                raise
        return [server.title for server, _ in begun]

    def stop_started(self) -> None:
        """Stop the servers that this object started."""
        with ThreadPoolExecutor(len(self._started) or 1) as pool:
            list(pool.map(Child.stop, self._started.values()))
        for name in self._started:
            self._records.remove(name)
        self._started.clear()

    def stop(self) -> list[str]:
        """Stop every server of this home and all that was started for it. Returns the titles of those that ran.

        A demo is asked first: it takes the lock to clean up after itself. This process itself is left alone.
        """
        records = self._records.all()
        demos = self._records.stop({name: one for name, one in records.items() if one.role == DEMO})
        with self._lock():
            own = {server.name for server in self.servers}
            others = self._records.stop({name: one for name, one in self._records.all().items() if name not in own})
            with ThreadPoolExecutor(len(self.servers) or 1) as pool:
                ran = list(pool.map(self._stop, self.servers))
            self._started.clear()
        return [*demos, *others, *(server.title for server, did in zip(self.servers, ran, strict=True) if did)]

    def _stop(self, server: Server) -> bool:
        record, child = self._records.read(server.name), self._started.get(server.name)
        if child is not None:
            child.stop()
        left = record is not None and record.stop()
        self._records.remove(server.name)
        return left or child is not None

    def _stop_left_behind(self) -> list[str]:
        """Stop what runs for nobody any more: its owner was killed, or it was, and something that it started lives on."""
        return self._records.stop({name: one for name, one in self._records.all().items() if one.left_behind()})

    def keep(self) -> None:
        """Let detached servers, and all else that this process started for the home, be wanted after its end."""
        self._records.disown(identify(os.getpid()))

    def processes(self) -> list[ProcessStatus]:
        """Return what runs for this home beside the servers of the stack."""
        own = {server.name for server in self.servers}
        places = {server.address for server in self.servers}
        return [
            ProcessStatus(
                role=one.role,
                address=one.address,
                health="left behind" if one.left_behind() else "running",
                pid=one.process.pid,
                log=one.log,
            )
            for name, one in self._records.all().items()
            if name not in own and one.address not in places and one.running()
        ]

    def status(self) -> list[ServerStatus]:
        """Ask every server how it is."""
        return [self._status(server) for server in self.servers]

    def _status(self, server: Server) -> ServerStatus:
        record = self._records.read(server.name) if server.ours else None
        process = record.process if record is not None and record.process.alive() else None
        version = server.version()
        if version is not None:
            health = "up"
        elif process is not None:
            health = "starting"
        else:
            health = "stopped" if server.ours and record is None else "down"
        return ServerStatus(
            name=server.name,
            title=server.title,
            address=server.address,
            health=health,
            version=version,
            pid=process.pid if process else None,
            log=str(self._log(server.name)) if server.ours else None,
        )

    def _begin(self, server: Server) -> Child | None:
        if not server.ours:
            if server.version() is None:
                raise StackUnavailable(
                    f"{server.title} at {server.address} does not answer; it is not on this machine, so start it there, "
                    f"or change {server.setting}"
                )
            return None
        record = self._records.read(server.name)
        if record is not None and record.process.alive():
            if server.version() is not None or not server.awaited:
                return None
            record.stop()
        self._records.remove(server.name)
        refuse_taken_port(server.title, server.port, server.setting)
        mark, log = new_mark(), self._log(server.name)
        try:
            server.folder.mkdir(parents=True, exist_ok=True)
            child = Child(
                server.title,
                server.command(),
                log=log,
                environment=server.environment,
                folder=server.folder,
                detached=self.detached,
                marks={MARK: mark},
            )
            self._started[server.name] = child
            identity = child.identity()
            if identity is not None:
                owner = None if self._wanted_for_good else identify(os.getpid())
                self._records.write(
                    server.name, ProcessRecord(server.name, identity, mark, server.address, str(log), owner)
                )
        except OSError as error:
            raise StackUnavailable(f"cannot start {server.title}: {describe(error)}") from None
        return child

    @property
    def _written_for(self) -> Path:
        return self.settings.home / "run" / "feature_stores.sha256"

    def _digest(self) -> str:
        return hashlib.sha256(self._plain_settings().encode()).hexdigest()

    def _plain_settings(self) -> str:
        plain = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self.settings.model_dump().items()
        }
        return json.dumps(plain, default=str)

    def _write_yamls(self) -> None:
        """Write Feast's yaml files, unless they are there and the settings are the same."""
        written = len(list(self.settings.home.glob("feature_store.*.yaml"))) == 3
        if not (written and self._written_for.exists() and self._written_for.read_text() == self._digest()):
            write_yamls(self.settings)
            self._written_for.write_text(self._digest())

    def _refuse_full_disk(self) -> None:
        free = shutil.disk_usage(self.settings.home).free
        if free < NEEDED_BYTES:
            raise StackUnavailable(
                f"only {free // 1024**2} MB are free on the disk of {self.settings.home}; free {NEEDED_BYTES // 1024**2} MB, "
                "or set STILLPOINT_HOME to a folder on another disk"
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        run = self.settings.home / "run"
        try:
            run.mkdir(parents=True, exist_ok=True)
            file = (run / "lock").open("w")
        except OSError as error:
            raise StackUnavailable(f"cannot use {self.settings.home}: {describe(error)}") from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _log(self, name: str) -> Path:
        return self.settings.home / "logs" / f"{name}.log"
