"""Parsing of requests: bodies, paths and query parameters become values, or a problem that names the field."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from inference.http.inflating import TooLarge, inflater
from inference.http.problems import Problem, invalid
from stillpoint.messages import PULL_KINDS, Kind, is_user_id

DEFAULT_LIMIT = 10
MAX_BODY = 4 * 1024 * 1024
MAX_ENTITIES = 10_000
MAX_LIMIT = 100
RECOMMENDATION_ID_PATTERN = r"^[0-9a-f]{32}$"
REQUEST_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
_NAME = re.compile(rb'"\s*:')
_RECOMMENDATION_ID = re.compile(RECOMMENDATION_ID_PATTERN.removesuffix("$") + r"\Z")


async def read_body(request: Request, seconds: float, *, limit: int = MAX_BODY) -> bytes:
    """Return the whole body, unpacked if it is gzip.

    Both the packed and the unpacked body may have `limit` bytes; a larger Content-Length is refused before reading.

    Raises:
        Problem: 413 too large, 408 longer than `seconds`, 400 cut off or invalid gzip, 415 another encoding.
    """
    unpack = inflater(request.headers.getlist("content-encoding"), limit)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:12]) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part if unpack is None else unpack.add(part))
        if unpack is not None:
            unpack.end()
    except TooLarge:
        raise _too_large(limit) from None
    except TimeoutError:
        raise Problem(408, "Request timeout", f"the body took longer than {seconds:g} s to come") from None
    except ClientDisconnect:
        raise Problem(400, "Bad request", "the body was cut off", field="body") from None
    return b"".join(parts)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return a body's JSON object.

    Raises:
        Problem: 400 not JSON, 422 not an object, or a name that stands twice in an object.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem(400, "Bad request", "the body is not JSON", field="body") from None
    if not isinstance(parsed, dict):
        raise invalid("body", "expected a JSON object")
    names = len(parsed) + sum(len(value) for value in parsed.values() if type(value) is dict)
    if len(_NAME.findall(body)) != names:  # a colon after a quote that is no pair of the result: maybe a repeated name
        _refuse_twice(body)
    return parsed


def _refuse_twice(body: bytes) -> None:
    """Refuse a name that stands twice, with a parser that reports every pair."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for name, value in pairs:
            if name in seen:
                raise invalid(_excerpt(name), "stands twice; expected once")
            seen[name] = value
        return seen

    try:
        json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise invalid("body", "nested too deep, or a number too long") from None


def query_in(request: Request, *known: str) -> Mapping[str, str]:
    """Return the query parameters by name.

    Raises:
        Problem: 422, names a parameter that is unknown or stands twice.
    """
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise invalid(_excerpt(name), "stands twice; expected once")
        given[name] = value
    refuse_unknown(given, known)
    return given


def header_in(request: Request, name: str) -> str | None:
    """Return a header's value; several headers of one name are joined by commas, as RFC 9110 says."""
    return ", ".join(found) if (found := request.headers.getlist(name)) else None


def refuse_unknown(given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse unknown fields or parameters, so that a misspelt one is not silently ignored."""
    for name in given:
        if name not in known:
            raise invalid(_excerpt(name), f"unknown; expected {', '.join(known) or 'none'}")


def user_of(value: Any, field: str = "user_id") -> str:
    """Return a user id."""
    if not is_user_id(value):
        raise invalid(field, "expected 1 to 64 of A-Z, a-z, 0-9, _ and -")
    return value


def recommendation_id_of(value: str) -> str:
    """Return the id of a recommendation."""
    if not _RECOMMENDATION_ID.match(value):
        raise invalid("recommendation_id", "expected 32 of 0-9 and a-f, as an answer names it")
    return value


def kind_of(value: Any, field: str, allowed: Sequence[Kind]) -> Kind:
    """Return a kind of recommendation."""
    if not isinstance(value, str) or value not in [str(kind) for kind in allowed]:
        raise invalid(field, f"expected one of {', '.join(allowed)}")
    return Kind(value)


def kinds_of(text: str) -> list[Kind]:
    """Return the kinds in a comma-separated list, each once, in its order."""
    return list(dict.fromkeys(kind_of(part, "kinds", PULL_KINDS) for part in text.split(",")))


def limit_of(value: Any) -> int:
    """Return the requested number of items from a JSON number (10.0 is 10)."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 1 <= value <= MAX_LIMIT:
        raise invalid("limit", f"expected a whole number from 1 to {MAX_LIMIT}")
    return int(value)


def limit_in(text: str | None) -> int:
    """Return the requested number of items from a query parameter; absent means the default."""
    if text is None:
        return DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise invalid("limit", f"expected a whole number from 1 to {MAX_LIMIT}")
    return limit_of(int(text))


def verbose_in(text: str | None) -> bool:
    """Return whether the answer shall include digests."""
    if text not in (None, "0", "1"):
        raise invalid("verbose", "expected 0 or 1")
    return text == "1"


def _too_large(limit: int) -> Problem:
    return Problem(413, "Content too large", f"at most {limit} bytes are read", field="body")


def _excerpt(name: str) -> str:
    return name[:40] if name.isprintable() else "body"
