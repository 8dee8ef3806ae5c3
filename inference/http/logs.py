"""The service's log: one JSON object a line, free of personal data.

Lines go to standard error. A request's line has its route template, never its path, query, headers or body. Of an
exception only the type and the stack are written, as its text may quote a key or a value.
"""

import logging
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

ACCESS = logging.getLogger("stillpoint.http")
_QUOTING = ("uvicorn", "asyncio", "redis", "boto", "urllib3")
"""Libraries whose messages may quote client data: only the message template is written."""


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON. `extra={"fields": {…}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        quoting = record.name.startswith(_QUOTING)
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": str(record.msg) if quoting else record.getMessage(),
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["places"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        return orjson.dumps(line, default=str).decode()


def log_answer(request_id: str, method: str, route: str, status: int, seconds: float) -> None:
    """Log one answered request."""
    fields = {
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 2),
    }
    ACCESS.info("answered", extra={"fields": fields})


def configuration(*, access: bool) -> dict[str, Any]:
    """Return the `logging.config` dictionary of a serving process; without `access` only warnings and errors are written."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "inference.http.logs.JsonLines"}},
        "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"handlers": ["lines"], "level": "WARNING"},
        "loggers": {ACCESS.name: {"level": "INFO" if access else "WARNING"}},
    }
