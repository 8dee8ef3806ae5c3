"""A model endpoint over real HTTP whose behaviour a test decides: right, hanging, failing, or answering garbage."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import orjson

from inference.http.model_input import JSON, parse
from inference.ranking.sagemaker_scorer import endpoint_config
from stillpoint.model import ModelBundle


class Endpoint(ThreadingHTTPServer):
    """Answers as `mood` says. `called` is set with each call, before it is answered."""

    daemon_threads = True

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bundle = bundle
        self.mood = "right"
        self.calls = 0
        self.called = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def client(self, *, seconds: float) -> Any:
        """Return boto3's client of it, with a deadline per call."""
        return boto3.client(
            "sagemaker-runtime",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=endpoint_config(seconds=seconds),
        )

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that gave up or was killed is no trouble of this server."""


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.server.calls += 1
        self.server.called.set()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        given = parse(self.server.bundle, body, JSON)
        scores = self.server.bundle.score(
            given.columns, content_ids=given.content_ids, sequence_id=given.sequence_id
        ).tolist()
        answers = {
            "right": {"scores": scores, "model_sha256": self.server.bundle.sha256},
            "other model": {"scores": scores, "model_sha256": "0" * 64},
            "too few": {"scores": scores[1:], "model_sha256": self.server.bundle.sha256},
            "not finite": {"scores": [None] * len(scores), "model_sha256": self.server.bundle.sha256},
        }
        if self.server.mood == "hangs":
            time.sleep(0.6)
        data = orjson.dumps(answers.get(self.server.mood, "<html>"))
        self.send_response(500 if self.server.mood == "fails" else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass
