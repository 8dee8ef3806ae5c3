"""A process that cannot be mistaken for another: how it starts, is recognised, and stops.

A process is known by its id together with its start time: ids are reused, and a stranger is never signalled.
`records.py` keeps who runs for a home.
"""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillpoint.errors import StackUnavailable

_LAUNCHER = Path(__file__).with_name("launch.py")
STOP_SECONDS = 10.0
_HAS_PROC = Path("/proc/self/stat").exists()


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Say whether exactly this process still runs. A zombie does not run."""
        return started_at(self.pid) == self.started


def started_at(pid: int) -> str | None:
    """Return a text that names the start of the process `pid`, or None if no such process runs."""
    if _HAS_PROC:
        try:
            # The command name stands in brackets and may hold spaces: count from the last bracket.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    shown = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a running process, or None."""
    started = started_at(pid)
    return None if started is None else ProcessIdentity(pid, started)


def stop(process: ProcessIdentity, *, seconds: float = STOP_SECONDS) -> bool:
    """End exactly this process: ask it alone, wait up to `seconds`, then force, with its group. False if it was gone.

    What it started is left to it: a stream finishes its micro-batch with its Java process still alive.
    """
    if not process.alive():
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    if not _wait_for_end(process, seconds):
        _signal(process.pid, signal.SIGKILL)
        _wait_for_end(process, 5.0)
    return True


def launch_command(command: Sequence[str], *, detached: bool) -> list[str]:
    """Return the command line that starts `command`; unless `detached`, the kernel ends it with the calling thread."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), "0" if detached else str(os.getpid()), *command]


def _signal(pid: int, number: signal.Signals) -> None:
    """Signal a server together with the processes that it started in its own group."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _wait_for_end(process: ProcessIdentity, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.alive():
        if time.monotonic() > deadline:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        time.sleep(0.02)
    return True


class Child:
    """A server process of ours, with its log. It runs in a session of its own, so Ctrl-C reaches only us."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        detached: bool = False,
        marks: Mapping[str, str] | None = None,
    ) -> None:
        """Start `command`; `marks` are variables beside `environment`. Unless `detached`, the kernel ends it when the calling *thread* ends (Linux).

        Raises:
            StackUnavailable: the log cannot be written, for example because the disk is full.
        """
        self.name = name
        self.log = log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                self._popen = subprocess.Popen(
                    launch_command(command, detached=detached),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**(os.environ if environment is None else environment), **(marks or {})},
                    cwd=folder,
                    start_new_session=True,
                )
        except OSError as error:
            raise StackUnavailable(f"cannot start {name}: {describe(error)}") from None

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        return self._popen.poll()

    def identity(self) -> ProcessIdentity | None:
        return identify(self.pid)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until the server answers.

        Raises:
            StackUnavailable: it ended, or did not answer in time; the text holds the last line of its log.
        """
        deadline = time.monotonic() + seconds
        while True:
            code = self.exit_code()
            if code is not None:
                raise StackUnavailable(f"{self.name} ended at start with code {code}: {self.last_words()}")
            if ready():
                return
            if time.monotonic() > deadline:
                self.stop()
                raise StackUnavailable(
                    f"{self.name} did not answer within {seconds:.0f} s; its log is {self.log}: {self.last_words()}"
                )
            time.sleep(0.02)

    def last_words(self) -> str:
        """Return the last line of the log that is not blank."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return next((line.strip() for line in reversed(lines) if line.strip()), f"nothing in its log {self.log}")

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """End it: ask, wait, force. A second call does nothing."""
        if self._popen.poll() is None:
            _signal(self.pid, signal.SIGTERM)
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                _signal(self.pid, signal.SIGKILL)
                self._popen.wait(5)


def free_port() -> int:
    """Return a port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_answers(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether anything listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def refuse_taken_port(name: str, port: int, setting: str) -> None:
    """Make sure that nobody listens on `port`, so that whoever answers there later is ours.

    Raises:
        StackUnavailable: somebody does.
    """
    if port_answers(port):
        raise StackUnavailable(
            f"cannot start {name}: port {port} on 127.0.0.1 is in use by another program; stop that, or set {setting}"
        )


def refuse_address(what: str, host: str, port: int, remedy: str) -> None:
    """Make sure that this process can listen there; port 0 is any free one.

    Raises:
        StackUnavailable: somebody listens there, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackUnavailable(
                f"cannot start {what}: port {port} on {host} is in use by another program; stop that, or {remedy}"
            ) from None
        raise StackUnavailable(f"cannot start {what} on {host}, port {port}: {error.strerror or error}") from None


def describe(error: OSError) -> str:
    """Return one clause that says what the system refused and what to do about it."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{where}; free some space or set STILLPOINT_HOME to a folder on another disk"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission{where}; set STILLPOINT_HOME to a folder that you may write"
    return f"{error.strerror}{where}"
