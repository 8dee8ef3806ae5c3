"""Distinguishes outages from faults, by one table of errors.

A fault is caused by the input: a request, a record, a file. An outage is caused by a server, credentials or this machine;
the same input may succeed later, so no input is refused, dropped or counted as failed because of an outage. Libraries'
errors are recognised by name and code, so that no library has to be imported.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import Logger
from typing import Any

from stillpoint.errors import StackUnavailable
from stillpoint.outage_table import (
    ARROW,
    ARROW_INPUT,
    AWS_CODES,
    AWS_ERRORS,
    AWS_STATUS,
    ERRNOS,
    INPUT_CODES,
    LIBRARY_ERRORS,
    OBJECT_STORE,
    REDIS_CODE,
    REDIS_CODES,
    REDIS_ERRORS,
    REDIS_TEXTS,
    UNREACHABLE,
)

_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Outage:
    """The unavailable server, and why (a clause that follows its name); `said` is the server's or library's own text."""

    server: str
    why: str
    said: str

    @property
    def unreachable(self) -> bool:
        """Whether the server did not answer at all."""
        return self.why in (UNREACHABLE, REDIS_ERRORS["ConnectionError"], REDIS_ERRORS["TimeoutError"])

    def __str__(self) -> str:
        words = f"{self.server} {self.why}".strip()
        return f"{words} ({self.said})" if self.said else words


def outage(error: BaseException) -> Outage | None:
    """Return the outage behind an error, or behind the errors that it was raised from; None if it is a fault."""
    seen: BaseException | None = error
    for _ in range(_DEPTH):
        if seen is None:
            return None
        found = _outage(seen)
        if found is not None:
            return found
        seen = seen.__cause__
    return None


class OutageLog:
    """Logs one line when an outage begins and one when it ends, however many errors it causes."""

    def __init__(self, log: Logger, what: str) -> None:
        """`what` says what waits, such as "prediction requests wait"."""
        self._log = log
        self._what = what
        self._began: float | None = None

    def met(self, error: BaseException | str, *, now: float) -> None:
        """Record an error of the outage at `now`, in seconds of a monotonic clock."""
        if self._began is None:
            self._began = now
            self._log.warning("%s: %s", self._what, " ".join(str(error).split()))

    def over(self, *, now: float) -> None:
        """Record that the work succeeds again."""
        if self._began is not None:
            self._log.warning("%s: over, after %.0f s", self._what, now - self._began)
            self._began = None


@contextmanager
def aws_errors(place: str) -> Iterator[None]:
    """Turn outages of AWS into `StackUnavailable` that names `place`; other errors pass unchanged."""
    try:
        yield
    except Exception as error:
        found = outage(error)
        if found is None or isinstance(error, StackUnavailable):
            raise
        raise StackUnavailable(f"{place} {found.why} ({found.said})") from error


def _outage(error: BaseException) -> Outage | None:
    said = " ".join(str(error).split())
    if isinstance(error, StackUnavailable):
        return Outage("", said, "")
    names = _names(error)
    if "redis" in names:
        why = _redis(names["redis"], str(error))
        return None if why is None else Outage("Redis", why, said)
    if "botocore" in names:
        why = _aws(error, names["botocore"])
        return None if why is None else Outage("AWS", why, said)
    return _elsewhere(error, names, said)


def _names(error: BaseException) -> dict[str, list[str]]:
    """Return the names of an error's class and bases by library, the most special first."""
    found: dict[str, list[str]] = {}
    for kind in type(error).__mro__:
        found.setdefault(kind.__module__.partition(".")[0], []).append(kind.__name__)
    return found


def _redis(names: list[str], text: str) -> str | None:
    for name in names:
        if name in REDIS_ERRORS:
            return REDIS_ERRORS[name]
    code = REDIS_CODE.match(text)
    if code is not None and code[1] in REDIS_CODES:
        return REDIS_CODES[code[1]]
    return next((why for words, why in REDIS_TEXTS.items() if words in text), None)


def _aws(error: BaseException, names: list[str]) -> str | None:
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    if "ClientError" in names:
        code = str(answer.get("Error", {}).get("Code", ""))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in AWS_CODES:
            return AWS_CODES[code]
        if code not in INPUT_CODES and _away(status):
            return f"cannot answer now (status {status})"
        return None
    return next((AWS_ERRORS[name] for name in names if name in AWS_ERRORS), None)


def _elsewhere(error: BaseException, names: dict[str, list[str]], said: str) -> Outage | None:
    """Return what other libraries, the system and S3 by way of Arrow or Polars tell of."""
    if "HTTPError" in names.get("urllib", ()):
        status = int(getattr(error, "code", 0))
        return Outage("a server", "cannot answer now", said) if _away(status) else None
    known = any(name in found for library, found in LIBRARY_ERRORS.items() for name in names.get(library, ()))
    if known or isinstance(error, (ConnectionError, TimeoutError)):
        return Outage("a server", UNREACHABLE, said)
    if isinstance(error, MemoryError):
        return Outage("this machine", ERRNOS[errno.ENOMEM], said)
    if isinstance(error, OSError) and error.errno in ERRNOS:
        return Outage("this machine", ERRNOS[error.errno], said)
    code = ARROW.search(said) if isinstance(error, OSError) else None
    if code is not None:  # S3 says of a file only that there is none; all else is about S3, or about us
        return None if code[1] in ARROW_INPUT else Outage("S3", "cannot answer now", said)
    if OBJECT_STORE.search(said) and ("polars" in names or isinstance(error, OSError)):
        return Outage("S3", "cannot answer now", said)
    return None


def _away(status: int) -> bool:
    return status in AWS_STATUS or status >= 500
