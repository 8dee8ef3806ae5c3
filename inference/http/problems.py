"""Failures as RFC 9457 problem documents, which name the field and leak no internals."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from starlette.responses import Response


class Problem(Exception):
    """An error answer; may be raised anywhere while a request is handled."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.headers = headers

    def response(self) -> Response:
        """Return the problem as `application/problem+json`."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field is not None:
            body["field"] = self.field
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Response(orjson.dumps(body), self.status, headers, "application/problem+json")


def invalid(field: str, detail: str) -> Problem:
    """Return the problem (422) of an invalid field."""
    return Problem(422, "Unprocessable content", detail, field=field)


def unavailable(detail: str) -> Problem:
    """Return the problem (503) of a temporarily unavailable service."""
    return Problem(503, "Service unavailable", detail, retry_after=1)
