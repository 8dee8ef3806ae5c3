"""Runs verbs in one process, one after the other, so that what they import is imported once.

A request is a line of JSON on standard input, a reply a line on standard output. What a verb and its libraries say on
standard error goes to the log that the request names.
"""

import importlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

_FEAST = frozenset({"feast", "snapshot", "train", "release"})
"""Verbs that import Feast, and more: they are run by one process, one after the other."""


class VerbOutcome(NamedTuple):
    """The exit code of a verb, negative if a signal ended the process, and what it printed."""

    code: int
    printed: str


class VerbProcess:
    """The demo's end of such a process. One verb at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.imported: set[str] = set()

    def run(self, arguments: Sequence[str], log: Path) -> VerbOutcome:
        """Run one verb to its end."""
        self.imported.add(arguments[0])
        return self._ask({"arguments": list(arguments), "log": str(log)})

    def prepare(self, verb: str, modules: Sequence[str], log: Path) -> VerbOutcome:
        """Import what a verb will import, before it is called."""
        self.imported.add(verb)
        return self._ask({"modules": list(modules), "log": str(log)})

    def _ask(self, request: Mapping[str, Any]) -> VerbOutcome:
        requests, replies = self.process.stdin, self.process.stdout
        assert requests is not None
        assert replies is not None
        try:
            # Not through the buffer: what cannot be sent would be sent again when it is closed.
            os.write(requests.fileno(), json.dumps(request).encode() + b"\n")
            line = replies.readline()
        except (OSError, ValueError):
            line = b""
        if not line:
            return VerbOutcome(self.process.wait(), "")
        return VerbOutcome(**json.loads(line))


class IdleProcesses:
    """Processes that wait for a verb; who takes one waits until there is one."""

    def __init__(self) -> None:
        self._processes: list[VerbProcess] = []
        self._changed = threading.Condition()

    def take(self, verb: str) -> VerbProcess:
        """Take the one that has imported the verb's code, or as much of it as there is."""
        needs = _FEAST if verb in _FEAST else {verb}
        with self._changed:
            self._changed.wait_for(lambda: self._processes)
            best = max(self._processes, key=lambda one: (verb in one.imported, bool(needs & one.imported)))
            self._processes.remove(best)
            return best

    def give_back(self, process: VerbProcess) -> None:
        with self._changed:
            self._processes.append(process)
            self._changed.notify()


def main() -> None:
    """Serve requests until there are no more."""
    from stillpoint.cli import run

    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what a verb starts must not read the requests
    os.dup2(2, 1)  # what a library writes there by itself is no reply
    for line in requests:
        request = json.loads(line)
        _log_to(Path(request["log"]))
        with redirect_stdout(io.StringIO()) as printed:
            code = run(request["arguments"]) if "arguments" in request else _import(request["modules"])
        sys.stderr.flush()
        print(json.dumps({"code": code, "printed": printed.getvalue()}), file=replies, flush=True)


def _import(modules: Sequence[str]) -> int:
    from stillpoint.feast_start import defer_type_checks

    defer_type_checks()
    for name in modules:
        importlib.import_module(name)
    return 0


def _log_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)


if __name__ == "__main__":
    main()
