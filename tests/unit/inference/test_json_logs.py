"""A log line is JSON, and free of what a client sent."""

import json
import logging
import sys

from inference.http.logs import JsonLines


def record(name: str, message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "x.py", 1, message, arguments, sys.exc_info() if error else None)


def test_an_exception_is_logged_by_type_and_place_without_its_text() -> None:
    try:
        raise ValueError("user_77 at stillpoint:rec:user_77")
    except ValueError:
        line = JsonLines().format(record("stillpoint.http", "a request failed", error=True))
    assert "user_77" not in line
    parsed = json.loads(line)
    assert (parsed["error"], parsed["level"]) == ("ValueError", "warning")
    assert parsed["places"][0].startswith("test_json_logs.py:")


def test_of_libraries_that_quote_requests_only_the_template_is_written() -> None:
    line = json.loads(JsonLines().format(record("uvicorn.error", "%s went wrong", "/v1/users/user_77")))
    assert line["message"] == "%s went wrong"
