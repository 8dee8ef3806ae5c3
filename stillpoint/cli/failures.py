"""Turns the failure of a command into one line for the user: what was found and what to do.

Errors raised on purpose have that text already; for a server that does not answer, a full disk and a usage error it is
written here. Any other error is a defect: its traceback goes to a log file, which the line names.
"""

import os
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

from stillpoint.clock import system_clock
from stillpoint.errors import StillpointError
from stillpoint.outages import outage


def explain(error: Exception) -> tuple[str, int]:
    """Return the line for stderr and the exit code. The traceback of a defect is written to the log of errors."""
    if isinstance(error, StillpointError):
        return f"error: {error}", error.exit_code
    usage = getattr(error, "format_message", None)
    if usage is not None:  # typer's and click's own
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            return usage(), 2
        hint = f"; see `{context.command_path} --help`" if context is not None else ""
        return f"error: {_usage_text(usage())}{hint}", getattr(error, "exit_code", 2)
    if type(error).__name__ == "Abort":
        return "error: stopped: there was no answer to a question", 1
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: let the interpreter flush into nothing
        return "", 1
    if isinstance(error, OSError) and error.filename is not None:
        from stillpoint.local.process import describe

        return f"error: {describe(error)}", 1
    found = outage(error)
    if found is not None:
        why = "does not answer" if found.unreachable else found.why
        return (
            f"error: {found.server} {why} ({first_line(error)}); start the embedded stack with `stillpoint up`, or check "
            "the address and the keys in the settings (`stillpoint status`)"
        ), 1
    log = log_traceback(error, system_clock())
    return f"error: unexpected {type(error).__name__}: {first_line(error)}; the traceback is in {log}", 1


def _usage_text(usage: str) -> str:
    """Return a usage error without the prefix that pydantic, which parses the values for typer, puts before it."""
    return " ".join(usage.replace("Value error, ", "").split()).rstrip(".")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that is not blank."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no text")


def log_traceback(error: BaseException, at: datetime) -> str:
    """Append the traceback to the home's log of errors, and return where that is."""
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
