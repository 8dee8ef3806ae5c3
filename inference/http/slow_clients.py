"""Protection against clients that send slowly, incompletely, too much, or something else than HTTP.

uvicorn's own protocol waits for ever and accepts headers of any size. This one closes a connection whose request line and
headers have not arrived within `HEADER_SECONDS`, or whose body has not ended within `MESSAGE_SECONDS` although it was
answered already. Input that is not HTTP, and too large headers, are answered with a problem document.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference.http.problems import Problem

HEADER_SECONDS = 5.0
MESSAGE_SECONDS = 10.0
HEAD_BYTES = 65_536
"""Bytes that may still arrive of a request's headers after the first packets."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with time and size limits."""

    _waiting: asyncio.TimerHandle | None = None
    _in_head = True
    _begins = False
    _head = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._enough()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._begins = False
        super().data_received(data)
        if self._in_head and not self._begins:
            self._head += len(data)
            if self._head > HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, "Request header fields too large", f"more than {HEAD_BYTES} bytes of them")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._begins, self._head = True, True, 0
        self._wait(HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._wait(MESSAGE_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._enough()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed, and close the connection."""
        self._refuse(400, "Bad request", "this is not an HTTP/1.1 request")

    def _refuse(self, status: int, title: str, detail: str) -> None:
        self._enough()
        body = bytes(Problem(status, title, detail).response().body)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self.transport.close()

    def _wait(self, seconds: float) -> None:
        self._enough()
        self._waiting = self.loop.call_later(seconds, self._close)

    def _enough(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
