"""The command line: one verb per call, and one line for a failure.

A verb's code is imported only when that verb is called, so `stillpoint --help` is quick and a room that cannot be
imported breaks its own verbs alone. Exit codes: 0 done, 1 refused or failed, 2 usage, 130 interrupted, 143 ended by SIGTERM (`stillpoint.errors`).
"""

import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130
_SIGNALS = 128
"""An end by signal n is this and n."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit the process with its code. An error is one line on stderr."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    from stillpoint.cli.root import command
    from stillpoint.feast_start import defer_type_checks

    defer_type_checks()
    return run_to_end(
        lambda: command(arguments).main(args=list(arguments), prog_name="stillpoint", standalone_mode=False)
    )


def run_to_end(act: Callable[[], object]) -> int:
    """Run something to its end and return its exit code; the libraries' words go to their log, a failure is one line."""
    from stillpoint.cli.failures import explain
    from stillpoint.cli.library_log import log_libraries

    try:
        with log_libraries():
            outcome = act()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as ended:  # a library's own, as uvicorn's 3, or the end after a signal
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return code if code in (0, 2) or code > _SIGNALS else 1
    except Exception as error:  # noqa: BLE001 - the last resort: every failure becomes one line and an exit code
        line, code = explain(error)
        if line:
            print(line, file=sys.stderr)
        return code
    return outcome if isinstance(outcome, int) else 0
