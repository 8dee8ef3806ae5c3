"""What if a client opens a connection and sends its headers slowly, never, or as garbage?

uvicorn's own protocol waits for ever. This one closes a connection whose request line and headers have not come within
`HEADER_SECONDS`, and answers what is not HTTP with a problem document.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference.problems import Problem

HEADER_SECONDS = 5.0


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with a limit to its patience."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._enough()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        self._enough()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, and close."""
        self._enough()
        body = bytes(Problem(400, "Bad request", "this is not an HTTP/1.1 request").response().body)
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def _wait(self) -> None:
        self._enough()
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._close)

    def _enough(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
