"""What a user reads when a command fails.

One line: what was found and what to do. Errors raised on purpose say it themselves; a server that does not answer, a full
disk and a usage error are put into words here; anything else is a defect, whose traceback goes to a log that is named.
"""

import os
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

from stillpoint.clock import system_clock
from stillpoint.errors import StillpointError

_UNREACHABLE = {
    "redis": ("ConnectionError", "TimeoutError"),
    "botocore": ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError"),
    "httpx": ("ConnectError", "ConnectTimeout"),
    "requests": ("ConnectionError", "ConnectTimeout"),
    "urllib3": ("MaxRetryError", "NewConnectionError"),
}
_SERVERS = {"redis": "Redis", "botocore": "AWS"}


def explain(error: Exception) -> tuple[str, int]:
    """Return the line for stderr and the exit code. A defect is logged on the way."""
    if isinstance(error, StillpointError):
        return f"error: {error}", error.exit_code
    usage = getattr(error, "format_message", None)
    if usage is not None:  # typer's and click's own
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            return usage(), 2
        hint = f"; see `{context.command_path} --help`" if context is not None else ""
        return f"error: {usage().strip().rstrip('.')}{hint}", getattr(error, "exit_code", 2)
    if type(error).__name__ == "Abort":
        return "error: stopped: there was no answer to a question", 1
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: let the interpreter flush into nothing
        return "", 1
    library = _unreachable(error)
    if library is not None:
        return (
            f"error: {_SERVERS.get(library, 'a server')} does not answer ({_first_line(error)}); start the embedded "
            "stack with `stillpoint up`, or check the address in the settings (`stillpoint status`)"
        ), 1
    if isinstance(error, OSError) and error.filename is not None:
        from stillpoint.local.process import describe

        return f"error: {describe(error)}", 1
    log = _log(error, system_clock())
    return f"error: unexpected {type(error).__name__}: {_first_line(error)}; the traceback is in {log}", 1


def _unreachable(error: BaseException) -> str | None:
    for kind in type(error).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ in _UNREACHABLE.get(library, ()):
            return library
    return None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no text")


def _log(error: BaseException, at: datetime) -> str:
    text = f"{at.isoformat()}\n{''.join(traceback.format_exception(error))}\n"
    home = Path(os.environ.get("STILLPOINT_HOME") or ".stillpoint").expanduser().absolute()
    for folder in (home / "logs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            log = folder / "stillpoint-errors.log"
            with log.open("a") as file:
                file.write(text)
        except OSError:
            continue
        return str(log)
    return "no file: none could be written\n" + text
