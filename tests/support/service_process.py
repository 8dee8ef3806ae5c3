"""The HTTP service as it runs for real: `stillpoint serve` in processes of its own, on a free port, with a made-up release."""

import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from stillpoint.local.process import free_port
from stillpoint.settings import Settings

COMMAND = (sys.executable, "-c", "from stillpoint.cli import main; main()", "serve")


def told(settings: Settings) -> dict[str, str]:
    """Return the settings that serving reads, as variables."""
    return {
        "STILLPOINT_HOME": str(settings.home),
        "STILLPOINT_LAKE": settings.lake,
        "STILLPOINT_AWS_ENDPOINT_URL": settings.aws_endpoint_url or "aws",
        "STILLPOINT_EVENT_STREAM": settings.event_stream,
        "STILLPOINT_REDIS_GREEN": settings.redis_green.get_secret_value(),
        "STILLPOINT_REDIS_BLUE": settings.redis_blue.get_secret_value(),
        "STILLPOINT_REDIS_SANDBOX": settings.redis_sandbox.get_secret_value(),
        "STILLPOINT_REDIS_STATE": settings.redis_state.get_secret_value(),
        "STILLPOINT_REDIS_SERVING": settings.redis_serving.get_secret_value(),
    }


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return this process's environment with the settings that serving reads."""
    return {**os.environ, **told(settings), **more}


def token_file(folder: Path, scopes: Mapping[str, Sequence[str]]) -> tuple[Path, dict[str, str]]:
    """Write a file of hashed tokens, one per name with its scopes; return it and the tokens by name."""
    tokens = {name: secrets.token_urlsafe(32) for name in scopes}
    entries = [
        {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": list(scopes[name])}
        for name, token in tokens.items()
    ]
    file = folder / "tokens.json"
    file.write_text(json.dumps({"tokens": entries}))
    return file, tokens


class ServiceProcess:
    """A running service. `log` is what it wrote to standard error."""

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        *arguments: str,
        ready: str = "/readyz",
        seconds: float = 120.0,
        token: str | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._file = folder / f"service-{self.port}.log"
        started = time.monotonic()
        with self._file.open("wb") as file:
            self.process = subprocess.Popen(
                [*COMMAND, "--port", str(self.port), *arguments],
                stderr=file,
                stdout=file,
                env=dict(variables),
                cwd=folder,
                start_new_session=True,
            )
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=10)
        try:
            self._wait(ready, seconds)
        except BaseException:
            self.kill()
            raise
        self.start_seconds = time.monotonic() - started

    def _wait(self, path: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(self.url + path, timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the service did not become ready:\n{self.log}")

    @property
    def log(self) -> str:
        return self._file.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines, each of which must be JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    def stop(self, *, seconds: float = 40.0) -> int:
        """Ask it to stop and return its exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and its processes, whatever they do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)
