"""S3, Kinesis, SQS and Lambda on this machine.

ministack answers the AWS protocols on loopback. It pins botocore, so it lives in an environment of its own,
`.venv-aws`, made from requirements-aws.lock by `make setup`. Any other stand-in, or AWS itself, is a setting away.
"""

import contextlib
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillpoint.errors import StackUnavailable
from stillpoint.local.process import Child, free_port

if TYPE_CHECKING:
    import botocore.client

START_SECONDS = 30.0
SERVICES = "s3,kinesis,sqs,lambda,sts,iam,ssm,logs,cloudwatch"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "TZ")


def find_ministack() -> Path:
    """Return the Python of the stand-in's environment: `.venv-aws` beside the running environment or the project.

    Raises:
        StackUnavailable: there is none; `make setup` makes it.
    """
    named = os.environ.get("STILLPOINT_AWS_PYTHON")
    candidates = [Path(named)] if named else [Path(sys.prefix).parent, Path.cwd(), *Path(__file__).parents[2:3]]
    for candidate in candidates:
        python = candidate if candidate.is_file() else candidate / ".venv-aws" / "bin" / "python"
        if python.exists():
            return python.absolute()
    raise StackUnavailable(
        f"no AWS stand-in found: looked for .venv-aws in {', '.join(map(str, candidates))}; run `make setup`, "
        "or set STILLPOINT_AWS_ENDPOINT_URL to another one (or to `aws`)"
    )


def ministack_command(python: Path) -> list[str]:
    return [str(python), "-I", str(Path(__file__).with_name("aws_program.py"))]


def ministack_environment(port: int, folder: Path, *, durable: bool) -> dict[str, str]:
    """Return the environment of the stand-in. `durable` keeps objects at once, and streams and queues at a stop."""
    flag = "1" if durable else "0"
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "SERVICES": SERVICES,
        "LAMBDA_EXECUTOR": "local",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        "S3_PERSIST": flag,
        "PERSIST_STATE": flag,
        "S3_DATA_DIR": str(folder / "s3"),
        "STATE_DIR": str(folder / "state"),
        "TMPDIR": str(folder),
    }


def aws_health(endpoint_url: str) -> dict[str, Any] | None:
    """Return what the stand-in says about itself, or None if no ministack answers there."""
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(f"{endpoint_url}/_ministack/health", timeout=2) as answer:
            value = json.load(answer)
        return value if isinstance(value, dict) else None
    return None


class AwsServer:
    """An AWS stand-in of our own on loopback, in memory, ended with its starter."""

    def __init__(self, folder: Path) -> None:
        """Start it on a free port and wait until it answers.

        Raises:
            StackUnavailable: there is none installed, or it ended at start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        python = find_ministack()
        for attempt in (1, 2, 3):
            self.port = free_port()
            self.endpoint_url = f"http://127.0.0.1:{self.port}"
            self._child = Child(
                "the AWS stand-in",
                ministack_command(python),
                log=folder / "aws.log",
                environment=ministack_environment(self.port, folder, durable=False),
                folder=folder,
            )
            try:
                self._child.wait_until(lambda: aws_health(self.endpoint_url) is not None, seconds=START_SECONDS)
            except StackUnavailable:
                if attempt == 3:
                    raise
            else:
                return

    @property
    def arguments(self) -> dict[str, str]:
        """Keyword arguments for a boto3 client."""
        return {
            "endpoint_url": self.endpoint_url,
            "region_name": "us-east-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }

    def client(self, service: str) -> "botocore.client.BaseClient":
        """Return a boto3 client of `s3`, `kinesis`, `sqs` or `lambda`."""
        import boto3

        return boto3.client(service, **self.arguments)  # type: ignore[call-overload,no-any-return]

    def stop(self) -> None:
        self._child.stop()
