"""The demo's processes: it runs verbs, keeps servers, and stops all of them whatever ends it.

Every process is recorded in the home as soon as it runs. Ctrl-C, SIGTERM and a closed terminal stop what was started; after
a `kill -9` the kernel ends the children (Linux), and the next `up`, `down` or demo whatever is left.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from simulation.demo.verb_process import IdleProcesses, VerbProcess
from stillpoint.errors import StackUnavailable, StillpointError
from stillpoint.lake.app_lake import open_lake
from stillpoint.local.process import Child, identify, launch_command
from stillpoint.local.records import DEMO, MARK, ProcessRecord, ProcessRecords, new_mark, record_process
from stillpoint.local.stack import Stack
from stillpoint.settings import Settings

MARK_FILE = "demo.json"
_OURS = ("aws", "redis", "mlflow", "sagemaker", "stream", "registry", "frozen", "run", "logs", "pages")
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_AT_ONCE = 2
"""How many verbs run beside each other."""
_PATIENT = {"STILLPOINT_GATE_LATENCY_P99_MS": "100"}
"""Stream, service, worker and training share this machine's processors: its latency says little of a release."""


class DemoFailed(StillpointError):
    """A part of the demo failed; the text names it and its log."""


class Stage:
    """The stack, and the processes that the demo starts. A context manager that stops them, unless told to keep them."""

    def __init__(self, settings: Settings, *, keep: bool) -> None:
        self.settings = settings
        self.keep = keep
        self._stack = Stack(settings, detached=keep, on_trial=True)
        self._records = ProcessRecords(settings.home)
        self._servers: dict[str, Child] = {}
        self._verbs: set[subprocess.Popen[bytes]] = set()
        self._idle = IdleProcesses()
        self._logs = settings.home / "logs"
        self._known = ExitStack()
        self._kept = ExitStack()

    def __enter__(self) -> "Stage":
        if not Path("feature_repo/definitions.py").exists():
            raise StackUnavailable(
                f"{Path.cwd()} is not the repository's root, where the demo and Feast run; `cd` there first"
            )
        self._refuse_second()
        self._clear()
        self._logs.mkdir(parents=True, exist_ok=True)
        (self.settings.home / MARK_FILE).write_text(json.dumps({"seed": self.settings.seed}))
        self._known.enter_context(record_process(self.settings.home, DEMO))
        for number in _ENDING:
            signal.signal(number, self._end)
        self._start_verbs()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._known:
            if kind is None:
                self._kept.close()
            if self.keep and kind is None:
                self._stack.keep()
                return
            for number in _ENDING:  # what is being stopped is stopped to the end, and each wait has its own
                signal.signal(number, signal.SIG_IGN)
            if kind is not None:
                with suppress(OSError):  # a terminal that was closed reads nothing
                    print("stopping what the demo has started", file=sys.stderr, flush=True)
            self._end_verbs()
            self._kept.close()
            self._stack.stop()

    def _end(self, number: int, frame: FrameType | None) -> None:
        """Leave the story: the verbs under way first, for threads wait for them; `__exit__` does the rest."""
        self._end_verbs()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _end_verbs(self) -> None:
        for process in list(self._verbs):
            process.terminate()

    def up(self, *, without: frozenset[str] = frozenset()) -> None:
        """Start the embedded stack, or all of it but some servers."""
        self._stack.start(without=without)

    def _refuse_second(self) -> None:
        """Refuse to begin beside a demo of the same home.

        Raises:
            StackUnavailable: names it.
        """
        for record in self._records.all().values():
            if record.role == DEMO and record.process.alive():
                raise StackUnavailable(
                    f"a demo runs in {self.settings.home} already (process {record.process.pid}); wait for its end, stop it "
                    "by `stillpoint down`, or set STILLPOINT_HOME to another folder"
                )

    def _clear(self) -> None:
        """Remove what an earlier demo left in this home; refuse to touch anybody else's data."""
        home = self.settings.home
        if (home / MARK_FILE).exists():
            self._stack.stop()
            for name in (*_OURS, MARK_FILE):
                path = home / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif any((home / name).exists() for name in ("aws", "redis", "stream")):
            raise StackUnavailable(
                f"{home} holds data that the demo did not make, and it begins with an empty lake; run "
                "`STILLPOINT_HOME=.stillpoint/demo stillpoint demo` (after `stillpoint down`), or remove the folder"
            )

    def verb(self, *arguments: str) -> Any:
        """Run `stillpoint …` to its end and return its JSON, if it prints any. Two may run at once, a third waits."""
        log = self._log("-".join(word for word in arguments[:2] if not word.startswith("-")))
        runner = self._idle.take(arguments[0])
        outcome = runner.run(arguments, log)
        self._idle.give_back(runner)
        return _answer("stillpoint", arguments, *outcome, log)

    def prepare(self, verb: str, modules: Sequence[str]) -> None:
        """Let an idle process import what a later verb needs; the next verbs are run beside it."""
        runner = self._idle.take(verb)

        def run() -> None:
            runner.prepare(verb, modules, self._log("verbs"))
            self._idle.give_back(runner)

        threading.Thread(target=run, daemon=True).start()

    def program(self, name: str, module: str, *arguments: str) -> Any:
        """Run `python -m MODULE …` to its end and return its JSON, if it prints any."""
        log = self._log(name)
        with log.open("ab") as errors, self._running(name, ["-m", module, *arguments], errors) as process:
            printed, _ = process.communicate()
        return _answer(module, arguments, process.returncode, printed.decode(), log)

    def keep_page(self, key: str) -> str:
        """Copy a page of the lake into the home, where a browser opens it without the stack, and return its path."""
        page = self.settings.home / "pages" / Path(key).name
        page.parent.mkdir(exist_ok=True)
        page.write_bytes(open_lake(self.settings).objects.get(key))
        return str(page)

    def _log(self, name: str) -> Path:
        return self._logs / f"demo-{name}.log"

    def _start_verbs(self) -> None:
        """Start the processes that run verbs until the demo ends; here, for they end with the thread that starts them."""
        with self._log("verbs").open("ab") as errors:
            for _ in range(_AT_ONCE):
                running = self._running("verbs", ["-m", "simulation.demo.verb_process"], errors)
                self._idle.give_back(VerbProcess(self._kept.enter_context(running)))

    def begin(self, name: str, *arguments: str) -> None:
        """Start a long-running verb."""
        log, mark = self._logs / f"demo-{name}.log", new_mark()
        child = Child(
            f"`stillpoint {name}`",
            [sys.executable, "-m", "stillpoint", *arguments],
            log=log,
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
            detached=self.keep,
            marks={MARK: mark},
        )
        self._servers[name] = child
        self._record(name, child.pid, mark, log)

    @contextmanager
    def _running(self, name: str, arguments: list[str], errors: BinaryIO) -> Iterator["subprocess.Popen[bytes]"]:
        """Run this Python for as long as the block needs it, known in the home, and ended with the demo."""
        mark = new_mark()
        process = subprocess.Popen(
            launch_command([sys.executable, *arguments], detached=False),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env={**_PATIENT, **os.environ, MARK: mark},
        )
        self._verbs.add(process)
        known = self._record(name, process.pid, mark, None)
        try:
            with process:
                try:
                    yield process
                except BaseException:
                    process.terminate()
                    raise
        finally:
            self._verbs.discard(process)
            self._records.remove(known)

    def _record(self, name: str, pid: int, mark: str, log: Path | None) -> str:
        """Write down a process that was just started, and return the name of its record."""
        identity, known = identify(pid), f"{name}-{pid}"
        if identity is not None:
            owner = identify(os.getpid())
            self._records.write(
                known, ProcessRecord(name, identity, mark, None, None if log is None else str(log), owner)
            )
        return known

    def wait(self, name: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until a server is ready; say which one was not, and where its log is."""
        end = time.monotonic() + seconds
        log = self._logs / f"demo-{name}.log"
        while time.monotonic() < end:
            if self._servers[name].exit_code() is not None:
                raise DemoFailed(f"`stillpoint {name}` ended by itself: {_last(log)}; its log is {log}")
            if condition():
                return
            time.sleep(0.1)
        raise DemoFailed(f"`stillpoint {name}` was not ready after {seconds:.0f} s; its log is {log}")

    @property
    def console(self) -> str | None:
        """The address of the console, None if the stack has none."""
        found = next((server for server in self._stack.servers if server.name == "console"), None)
        return None if found is None else f"http://{found.address}"

    @property
    def pids(self) -> dict[str, int]:
        """The processes that the demo started."""
        return {name: process.pid for name, process in self._servers.items()}


def _answer(module: str, arguments: Sequence[str], code: int, printed: str, log: Path) -> Any:
    """Return the document that was printed.

    Raises:
        DemoFailed: the code is not 0.
    """
    document = document_in(printed)
    if code != 0:
        why = _red(document) or _last(log)
        raise DemoFailed(f"`{module} {' '.join(arguments)}` ended with {code}: {why}; its log is {log}")
    return document


def document_in(text: str) -> Any:
    """Return the JSON document at the end of what a verb printed, or None."""
    text = text.strip()
    for candidate in (text, text.splitlines()[-1] if text else ""):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return None


def _red(document: Any) -> str | None:
    """Return what a gate's report says is wrong."""
    results = document.get("results", ()) if isinstance(document, dict) else ()
    failed = [
        f"{one['name']}: found {one['found']}, expected {one['expected']}" for one in results if not one["passed"]
    ]
    return "; ".join(failed) or None


def _last(log: Path) -> str:
    said = log.read_text(errors="replace") if log.exists() else ""
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
