"""A proxy before the AWS stand-in that fails services on demand and enforces Kinesis's limits.

Kinesis allows five GetRecords calls and 2 MB a second for each shard; the stand-in does not mind, so the proxy does: after
an answer of 10 MB a shard refuses for five seconds, as AWS's does. `answered` keeps time and size of what it let through.
"""

import bisect
import http.client
import json
import sys
import threading
import time
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

CALLS_A_SECOND = 5
BYTES_A_SECOND = 2 * 1024 * 1024
SLACK_SECONDS = 0.02
_DROPPED = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class FaultProxy:
    """Forwards to `endpoint_url`. Put `s3`, `sqs` or `kinesis` into `failing` to answer 503 in its place."""

    def __init__(self, endpoint_url):
        self.failing = set()
        self.refused = 0
        self.throttled = 0
        self.answered = defaultdict(list)
        self._shards = {}
        self._calls = defaultdict(deque)
        self._free_at = defaultdict(float)
        self._lock = threading.Lock()
        target = urlparse(endpoint_url)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                return

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                operation = self.headers.get("X-Amz-Target", "")
                service = "sqs" if "SQS" in operation else "kinesis" if operation.startswith("Kinesis") else "s3"
                if service in proxy.failing:
                    proxy.refused += 1
                    return self.answer(503, [], b"")
                shard = proxy.shard_of(operation, body)
                if shard is not None and proxy.over_limit(shard):
                    proxy.throttled += 1
                    refusal = {"__type": "ProvisionedThroughputExceededException", "message": "Rate exceeded"}
                    return self.answer(
                        400, [("Content-Type", "application/x-amz-json-1.1")], json.dumps(refusal).encode()
                    )
                connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    reply = connection.getresponse()
                    data = reply.read()
                    proxy.learn(operation, body, data, shard)
                    length = reply.getheader("Content-Length") if self.command == "HEAD" else None
                    headers = [(k, v) for k, v in reply.getheaders() if k.lower() not in _DROPPED]
                    return self.answer(reply.status, headers, data, length)
                except OSError:
                    return self.answer(502, [], b"")
                finally:
                    connection.close()

            def answer(self, status, headers, data, length=None):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def shard_of(self, operation, body):
        """Return the shard that a GetRecords call reads, None for any other call."""
        return self._shards.get(json.loads(body)["ShardIterator"]) if operation.endswith(".GetRecords") else None

    def over_limit(self, shard):
        now = time.monotonic()
        with self._lock:
            calls = self._calls[shard]
            while calls and calls[0] <= now - 1 + SLACK_SECONDS:
                calls.popleft()
            if len(calls) >= CALLS_A_SECOND or now < self._free_at[shard] - SLACK_SECONDS:
                return True
            calls.append(now)
            return False

    def learn(self, operation, body, data, shard):
        """Remember to which shard an iterator belongs, and how much was read from it."""
        if operation.endswith(".GetShardIterator"):
            self._shards[json.loads(data).get("ShardIterator")] = json.loads(body)["ShardId"]
        elif shard is not None:
            answer = json.loads(data)
            size = sum(len(record["Data"]) * 3 // 4 for record in answer.get("Records", ()))
            with self._lock:
                now = time.monotonic()
                self._free_at[shard] = max(now, self._free_at[shard]) + size / BYTES_A_SECOND
                self.answered[shard].append((now, size))
            following = answer.get("NextShardIterator")
            if following:
                self._shards[following] = shard

    def most_in_a_second(self, shard):
        """Return the greatest number of answered calls that began to be answered within one second."""
        times = [moment for moment, _ in self.answered[shard]]
        return max(bisect.bisect_left(times, moment + 1) - index for index, moment in enumerate(times))

    def bytes_a_second(self, shard):
        """Return how fast a shard was read, from its first answer until the last was paid for."""
        first, last = self.answered[shard][0][0], self.answered[shard][-1]
        return sum(size for _, size in self.answered[shard]) / (last[0] - first + last[1] / BYTES_A_SECOND or 1)


if __name__ == "__main__":
    proxy = FaultProxy(sys.argv[1])
    print(proxy.endpoint_url, flush=True)
    sys.stdin.read()
