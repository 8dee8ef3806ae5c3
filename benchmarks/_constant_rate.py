"""Measures latencies at a constant rate of requests, from a process of its own beside the server under load.

`python _constant_rate.py HOST PORT RATE SECONDS CONNECTIONS PATH BODIES` posts the lines of the file BODIES in turn to PATH
at evenly spaced moments and prints JSON. A latency counts from the moment when its request should have been sent, so that
a server which stalls is charged for everybody who had to wait.
"""

import asyncio
import json
import sys
import time
from pathlib import Path


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[bytes] | None = None
        self.closed = False
        self._parts: list[bytes] = []
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if self._missing is None:
            received = b"".join(self._parts)
            head, found, body = received.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            self._missing = length - len(body)
        else:
            self._missing -= len(data)
        if self._missing <= 0 and self.answered is not None and not self.answered.done():
            status = b"".join(self._parts)[9:12]
            self._parts, self._missing = [], None
            self.answered.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(ConnectionError("the service closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        assert self.transport is not None
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answered


def prepared(path: str, bodies: list[bytes]) -> list[bytes]:
    """Return the requests as they go over the wire."""
    head = b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    return [head % (path.encode(), len(body), body) for body in bodies]


async def run(
    host: str, port: int, rate: float, seconds: float, connections: int, requests: list[bytes]
) -> dict[str, object]:
    """Send the requests and return counts and percentiles in milliseconds."""
    loop = asyncio.get_running_loop()
    idle: asyncio.Queue[Connection] = asyncio.LifoQueue()
    for _ in range(connections):
        _, connection = await loop.create_connection(Connection, host, port)
        idle.put_nowait(connection)
    taken: list[float] = []
    statuses: dict[str, int] = {}

    async def one(number: int, due: float) -> None:
        connection = await idle.get()
        if connection.closed:  # it was idle for longer than the server keeps connections
            _, connection = await loop.create_connection(Connection, host, port)
        status = (await connection.ask(requests[number % len(requests)])).decode()
        taken.append((time.perf_counter() - due) * 1000)
        statuses[status] = statuses.get(status, 0) + 1
        idle.put_nowait(connection)

    began = time.perf_counter() + 0.05
    tasks = []
    for number in range(max(1, int(rate * seconds))):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    taken.sort()
    at = {f"p{100 * part:g}": taken[min(len(taken) - 1, int(len(taken) * part))] for part in (0.5, 0.9, 0.99, 0.999)}
    return {"requests": len(taken), "statuses": statuses, **at, "max": taken[-1]}


if __name__ == "__main__":
    host, port, rate, seconds, connections, path, bodies = sys.argv[1:]
    requests = prepared(path, Path(bodies).read_bytes().splitlines())
    result = asyncio.run(run(host, int(port), float(rate), float(seconds), int(connections), requests))
    sys.stdout.write(json.dumps(result) + "\n")
