"""Runs verbs and keeps servers for the demo, and cleans up whatever happens."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillpoint.errors import StackUnavailable, StillpointError
from stillpoint.local.stack import Stack
from stillpoint.settings import Settings

MARK = "demo.json"
_OURS = ("aws", "redis", "mlflow", "sagemaker", "stream", "registry", "frozen", "run", "logs")
_STOP_SECONDS = 15.0
_PATIENT = {"STILLPOINT_GATE_LATENCY_P99_MS": "100"}
"""Stream, service, worker and training share this machine's processors: its latency says little of a release."""


class DemoFailed(StillpointError):
    """A part of the demo failed; the text names it and its log."""


class Stage:
    """The stack, and the processes that the demo starts. A context manager that stops them, unless told to keep them."""

    def __init__(self, settings: Settings, *, keep: bool) -> None:
        self.settings = settings
        self.keep = keep
        self._stack = Stack(settings, detached=keep)
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = settings.home / "logs"

    def __enter__(self) -> "Stage":
        if not Path("feature_repo/definitions.py").exists():
            raise StackUnavailable(
                f"{Path.cwd()} is not the repository's root, where the demo and Feast run; `cd` there first"
            )
        self._clear()
        self._logs.mkdir(parents=True, exist_ok=True)
        (self.settings.home / MARK).write_text(json.dumps({"seed": self.settings.seed}))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.keep and kind is None:
            return
        for process in self._servers.values():
            process.terminate()
        for process in self._servers.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stack.stop()

    def up(self, *, without: frozenset[str] = frozenset()) -> None:
        """Start the embedded stack, or all of it but some servers."""
        self._stack.start(without=without)

    def _clear(self) -> None:
        """Remove what an earlier demo left in this home; refuse to touch anybody else's data."""
        home = self.settings.home
        if (home / MARK).exists():
            self._stack.stop()
            for name in (*_OURS, MARK):
                path = home / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif any((home / name).exists() for name in ("aws", "redis", "stream")):
            raise StackUnavailable(
                f"{home} holds data that the demo did not make, and it begins with an empty lake; run "
                "`STILLPOINT_HOME=.stillpoint/demo stillpoint demo` (after `stillpoint down`), or remove the folder"
            )

    def verb(self, *arguments: str) -> Any:
        """Run `stillpoint …` to its end and return its JSON, if it prints any."""
        name = "-".join(word for word in arguments[:2] if not word.startswith("-"))
        log = self._logs / f"demo-{name}.log"
        with log.open("ab") as errors:
            done = subprocess.run(
                [sys.executable, "-m", "stillpoint", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                check=False,
                env={**_PATIENT, **os.environ},
            )
        document = document_in(done.stdout.decode())
        if done.returncode != 0:
            why = _red(document) or _last(log)
            raise DemoFailed(
                f"`stillpoint {' '.join(arguments)}` ended with {done.returncode}: {why}; its log is {log}"
            )
        return document

    def begin(self, name: str, *arguments: str) -> None:
        """Start a long-running verb."""
        with (self._logs / f"demo-{name}.log").open("ab") as log:
            self._servers[name] = subprocess.Popen(
                [sys.executable, "-m", "stillpoint", *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                preexec_fn=None if self.keep else _end_with_parent,
            )

    def wait(self, name: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until a server is ready; say which one was not, and where its log is."""
        end = time.monotonic() + seconds
        log = self._logs / f"demo-{name}.log"
        while time.monotonic() < end:
            if self._servers[name].poll() is not None:
                raise DemoFailed(f"`stillpoint {name}` ended by itself: {_last(log)}; its log is {log}")
            if condition():
                return
            time.sleep(0.1)
        raise DemoFailed(f"`stillpoint {name}` was not ready after {seconds:.0f} s; its log is {log}")

    @property
    def pids(self) -> dict[str, int]:
        """The processes that the demo started."""
        return {name: process.pid for name, process in self._servers.items()}


def _end_with_parent() -> None:
    """Ask the kernel to end this child when the demo dies, even by kill -9. Linux only; elsewhere `down` finds it."""
    import ctypes
    import signal

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


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
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
