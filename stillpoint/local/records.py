"""A record of every process that a home started, and how all of them are found and stopped.

Each lies in `run/<name>.pid` below STILLPOINT_HOME: id and start time (a recycled id is never signalled), role, address,
log, and a mark that the process and whatever it starts carry in their environment. So the Java of a stream and the
workers of a service are found even after a `kill -9` of the process that the record names (Linux; elsewhere only while it
lives, by its process group). `owner` is who must live for the process to be wanted: what a killed demo leaves is stopped by
the next `up`, what `demo --keep` leaves is nobody's orphan.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stillpoint.lake.files import write_whole
from stillpoint.local.process import STOP_SECONDS, ProcessIdentity, identify, stop

MARK = "STILLPOINT_PROCESS"
"""The variable that a process and all that it starts carry."""
DEMO = "demo"
_DEMO_SECONDS = 60.0
"""A demo that is asked to end stops all that it started, one after the other."""

log = logging.getLogger(__name__)


def new_mark() -> str:
    """Return a mark that no other process has."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process of a home. `mark` is empty in the records of older versions."""

    role: str
    process: ProcessIdentity
    mark: str = ""
    address: str | None = None
    log: str | None = None
    owner: ProcessIdentity | None = None

    def left_behind(self) -> bool:
        """Say whether whoever wanted this process has ended without stopping it, or it has itself been killed."""
        return not self.process.alive() or (self.owner is not None and not self.owner.alive())

    def running(self) -> bool:
        """Say whether the process or anything that it started runs."""
        return self.process.alive() or bool(processes_with_mark(self.mark))

    def stop(self, *, seconds: float | None = None) -> bool:
        """End the process and all that it started: ask, wait, then force. Return False if nothing of it ran."""
        patience = seconds if seconds is not None else _DEMO_SECONDS if self.role == DEMO else STOP_SECONDS
        ran = stop(self.process, seconds=patience)
        rest = processes_with_mark(self.mark)
        with ThreadPoolExecutor(len(rest) or 1) as pool:
            list(pool.map(stop, rest))
        return ran or bool(rest)


def processes_with_mark(mark: str) -> list[ProcessIdentity]:
    """Return the other processes of this user that carry a mark; none where the system does not show environments."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*") if mark else ():
        try:
            carries = int(entry.name) != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        identity = identify(int(entry.name)) if carries else None
        if identity is not None:
            found.append(identity)
    return found


@dataclass(frozen=True, slots=True)
class ProcessRecords:
    """The records of one home."""

    home: Path

    def write(self, name: str, record: ProcessRecord) -> None:
        """Keep a record under a name; it appears whole."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {**asdict(record.process), **asdict(record)}
        del document["process"]
        write_whole(path, json.dumps(document) + "\n")

    def read(self, name: str) -> ProcessRecord | None:
        """Return a record whether its process runs or not; a damaged one counts as none."""
        try:
            value = json.loads(self._path(name).read_text())
            owner = value.get("owner")
            return ProcessRecord(
                role=str(value.get("role", name)),
                process=_identity(value),
                mark=str(value.get("mark", "")),
                address=value.get("address"),
                log=value.get("log"),
                owner=None if owner is None else _identity(owner),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def all(self) -> dict[str, ProcessRecord]:
        """Return every record that can be read, by name; damaged ones are removed."""
        found = {}
        for path in sorted((self.home / "run").glob("*.pid")):
            record = self.read(path.stem)
            if record is None:
                path.unlink(missing_ok=True)
            else:
                found[path.stem] = record
        return found

    def stop(self, records: dict[str, ProcessRecord]) -> list[str]:
        """Stop these processes side by side, never this one itself; return the roles of those that ran."""
        others = {name: record for name, record in records.items() if record.process.pid != os.getpid()}
        with ThreadPoolExecutor(len(others) or 1) as pool:
            ran = list(pool.map(ProcessRecord.stop, others.values()))
        for name in others:
            self.remove(name)
        return [record.role for record, did in zip(others.values(), ran, strict=True) if did]

    def disown(self, owner: ProcessIdentity | None) -> None:
        """Keep what `owner` started beyond its end, on purpose."""
        for name, record in self.all().items():
            if owner is not None and record.owner == owner:
                self.write(name, replace(record, owner=None))

    def _path(self, name: str) -> Path:
        return self.home / "run" / f"{name}.pid"


@contextmanager
def record_process(home: Path, role: str, *, address: str | None = None) -> Iterator[None]:
    """Let this process be known in its home for as long as the block runs, with all that it starts.

    A process that a demo or the stack started is recorded already. A home that cannot be written has no records: a platform that runs
    the process by other means stops it by other means.
    """
    records, identity = ProcessRecords(home), identify(os.getpid())
    name = f"{role}-{os.getpid()}"
    known = records.read(name)
    if identity is not None and all(one.process != identity for one in records.all().values()):
        mark = os.environ.setdefault(MARK, new_mark()) if known is None else new_mark()
        os.environ[MARK] = mark
        try:
            records.write(name, ProcessRecord(role=role, process=identity, mark=mark, address=address))
        except OSError as error:
            log.info("%s cannot be recorded in %s: %s", role, home, error)
    try:
        yield
    finally:
        mine = records.read(name)
        if mine is not None and mine.process == identity:
            try:
                records.remove(name)
            except OSError as error:
                log.info("the record of %s in %s cannot be removed: %s", role, home, error)


def _identity(value: Any) -> ProcessIdentity:
    return ProcessIdentity(int(value["pid"]), str(value["started"]))
