"""The SageMaker stand-in's HTTP interface.

A small HTTP server that speaks AWS's JSON protocol for the control plane (`X-Amz-Target: SageMaker.…`) and REST for the
runtime (`POST /endpoints/<name>/invocations`), so that boto3 and sagemaker-core work unchanged. Behind each endpoint runs
the real model server as a child. Run as `python -m stillpoint.local.sagemaker PORT FOLDER`.
"""

import json
import shlex
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

from stillpoint.local.container import fetch_all_with, fetch_with, store_with
from stillpoint.local.sagemaker_control import AwsRefusal, ControlPlane
from stillpoint.settings import Settings

_PASSED_ON = ("Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Inference-Id")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    control: ClassVar[ControlPlane]

    def do_GET(self) -> None:
        if self.path == "/ping":
            self._answer(200, "text/plain", b"stillpoint stand-in")
        else:
            self._answer(404, "text/plain", b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.path.startswith("/endpoints/"):
                self._invoke(unquote(self.path.split("/")[2]), body)
            else:
                operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                answer = self.control.call(operation, json.loads(body or b"{}"))
                self._answer(200, "application/x-amz-json-1.1", json.dumps(answer).encode())
        except AwsRefusal as refusal:
            self._refuse(refusal.status, refusal.kind, {"message": str(refusal), "Message": str(refusal)})
        except (ValueError, KeyError) as error:
            self._refuse(400, "ValidationException", {"message": f"malformed request: {error}"})

    def _invoke(self, endpoint: str, body: bytes) -> None:
        container = self.control.container(endpoint)
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        try:
            status, kind, data = container.invoke(body, headers)
        except OSError as error:
            reason = f"the container does not answer ({error}): {container.last_words()}"
            self._refuse(424, "ModelError", {"Message": reason, "OriginalStatusCode": 500, "OriginalMessage": reason})
            return
        if status != 200:
            text = data.decode(errors="replace")
            self._refuse(
                424,
                "ModelError",
                {
                    "Message": f'Received client error ({status}) from primary with message "{text}".',
                    "OriginalStatusCode": status,
                    "OriginalMessage": text,
                },
            )
            return
        self._answer(200, kind or "application/octet-stream", data)

    def _refuse(self, status: int, kind: str, document: dict[str, object]) -> None:
        data = json.dumps({"__type": kind, **document}).encode()
        self._answer(status, "application/x-amz-json-1.1", data, {"x-amzn-ErrorType": kind})

    def _answer(self, status: int, kind: str, data: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: errors travel in the answers."""


class SageMakerServer:
    """The stand-in in this process, on loopback."""

    def __init__(self, control: ControlPlane, port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"control": control})
        self._control = control
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, name="sagemaker", daemon=True).start()

    def stop(self) -> None:
        """Take no more requests and stop all containers."""
        self._http.shutdown()
        self._http.server_close()
        self._control.close()


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    import boto3

    settings = Settings.load()
    s3 = boto3.client("s3", **settings.aws_client_arguments())  # type: ignore[call-overload]
    command = (
        shlex.split(settings.model_server_command)
        if settings.model_server_command
        else [sys.executable, "-m", "inference.model_server"]
    )
    control = ControlPlane(
        Path(arguments[1]),
        fetch_with(s3),
        command,
        region=settings.aws_region,
        fetch_all=fetch_all_with(settings.aws_client_arguments()),
        store=store_with(settings.aws_client_arguments()),
    )
    server = SageMakerServer(control, int(arguments[0]))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
