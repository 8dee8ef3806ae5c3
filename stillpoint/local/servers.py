"""The servers of the embedded stack, by the settings.

Each server whose address is on loopback is ours to run; one elsewhere is somebody else's and only looked at. Two settings
with the same Redis address mean one Redis.
"""

import importlib.util
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from stillpoint.errors import InvalidSettings
from stillpoint.local.aws import aws_health, find_ministack, ministack_command, ministack_environment
from stillpoint.local.redis_server import find_redis, redis_answers, redis_command
from stillpoint.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REDIS_SETTINGS = ("redis_green", "redis_blue", "redis_sandbox", "redis_serving", "redis_state")


@dataclass(frozen=True, slots=True)
class Server:
    """One server: where it listens, how it starts, how it says that it is well."""

    name: str
    title: str
    host: str
    port: int
    setting: str
    """The variable that moves it."""
    version: Callable[[], str | None]
    """Its version if it answers, else None."""
    command: Callable[[], Sequence[str]] = field(default=tuple)
    environment: Mapping[str, str] | None = None
    folder: Path = Path()
    seconds: float = 30.0
    awaited: bool = True
    """`up` waits until it answers; the others come up by themselves."""

    @property
    def ours(self) -> bool:
        return self.host in LOOPBACK

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def servers(settings: Settings) -> list[Server]:
    """Return the stack's servers in the order in which they start.

    Raises:
        InvalidSettings: an address cannot be read, or two servers share a port.
    """
    found = [*_redis(settings)]
    if settings.aws_endpoint_url:
        found.append(_aws(settings, settings.aws_endpoint_url))
    if settings.sagemaker_endpoint_url:
        found.append(_sagemaker(settings, settings.sagemaker_endpoint_url))
    if settings.mlflow_tracking_uri.startswith(("http://", "https://")):
        found.append(_mlflow(settings))
    if settings.console and settings.console_host in LOOPBACK and settings.console_port and _console_is_installed():
        found.append(_console(settings))
    taken: dict[tuple[str, int], Server] = {}
    for server in found:
        other = taken.setdefault((server.host, server.port), server)
        if other is not server:
            raise InvalidSettings(
                f"{other.title} and {server.title} are both at {server.address}; change {other.setting} or {server.setting}"
            )
    return found


def _redis(settings: Settings) -> list[Server]:
    addresses: dict[tuple[str, int], str] = {}
    for name in _REDIS_SETTINGS:
        variable = f"STILLPOINT_{name.upper()}"
        for part in getattr(settings, name).get_secret_value().split(","):
            host, colon, port = part.strip().rpartition(":")
            if "=" not in part and colon:
                if not port.isdigit():
                    raise InvalidSettings(f"{variable} holds the port {port!r}; expected host:port,db=0")
                addresses.setdefault((host, int(port)), variable)
    first = True
    found = []
    for (host, port), variable in addresses.items():
        folder = settings.home / ("redis" if first else f"redis-{port}")
        first = False
        found.append(
            Server(
                name=folder.name,
                title="Redis",
                host=host,
                port=port,
                setting=variable,
                version=lambda host=host, port=port: _redis_version(host, port),  # type: ignore[misc]
                command=lambda port=port, folder=folder: redis_command(find_redis(), port, folder, durable=True),  # type: ignore[misc]
                folder=folder,
            )
        )
    return found


def _redis_version(host: str, port: int) -> str | None:
    if not redis_answers(port, host):
        return None
    import redis

    with closing(redis.Redis(host=host, port=port, socket_timeout=2)) as client, suppress(redis.RedisError):
        return str(client.info("server")["redis_version"])
    return "?"


def _aws(settings: Settings, url: str) -> Server:
    host, port = _place("STILLPOINT_AWS_ENDPOINT_URL", url)
    folder = settings.home / "aws"

    def version() -> str | None:
        health = aws_health(url)
        return None if health is None else f"ministack {health.get('version', '?')}"

    return Server(
        name="aws",
        title="AWS stand-in",
        host=host,
        port=port,
        setting="STILLPOINT_AWS_ENDPOINT_URL",
        version=version,
        command=lambda: ministack_command(find_ministack()),
        environment=ministack_environment(port, folder, durable=True),
        folder=folder,
    )


def _sagemaker(settings: Settings, url: str) -> Server:
    host, port = _place("STILLPOINT_SAGEMAKER_ENDPOINT_URL", url)
    return Server(
        name="sagemaker",
        title="SageMaker stand-in",
        host=host,
        port=port,
        setting="STILLPOINT_SAGEMAKER_ENDPOINT_URL",
        version=lambda: _text(f"{url}/ping"),
        command=lambda: [
            sys.executable,
            "-m",
            "stillpoint.local.sagemaker",
            str(port),
            str(settings.home / "sagemaker"),
        ],
        environment=_sagemaker_environment(settings),
        folder=settings.home / "sagemaker",
    )


def _sagemaker_environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with the settings that the stand-in reads, wherever they came from."""
    told = {
        "STILLPOINT_HOME": str(settings.home),
        "STILLPOINT_AWS_ENDPOINT_URL": settings.aws_endpoint_url or "aws",
        "STILLPOINT_AWS_REGION": settings.aws_region,
    }
    if settings.model_server_command:
        told["STILLPOINT_MODEL_SERVER_COMMAND"] = settings.model_server_command
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
        secret = getattr(settings, name)
        if secret is not None:
            told[f"STILLPOINT_{name.upper()}"] = secret.get_secret_value()
    return {**os.environ, **told}


def _mlflow(settings: Settings) -> Server:
    url = settings.mlflow_tracking_uri.rstrip("/")
    host, port = _place("STILLPOINT_MLFLOW_TRACKING_URI", url)
    folder = settings.home / "mlflow"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    return Server(
        name="mlflow",
        title="MLflow",
        host=host,
        port=port,
        setting="STILLPOINT_MLFLOW_TRACKING_URI",
        version=lambda: _text(f"{url}/version"),
        command=lambda: command,
        # Background jobs would be five more processes of 250 MB each, for features of MLflow that nothing here uses.
        environment={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        folder=folder,
        seconds=90.0,
        awaited=False,
    )


def _console_is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("console", "nicegui"))


def _console(settings: Settings) -> Server:
    url = f"http://{settings.console_host}:{settings.console_port}"
    return Server(
        name="console",
        title="Console",
        host=settings.console_host,
        port=settings.console_port,
        setting="STILLPOINT_CONSOLE_PORT",
        version=lambda: _text(f"{url}/healthz"),
        command=lambda: [sys.executable, "-m", "stillpoint", "console"],
        environment={**os.environ, "STILLPOINT_HOME": str(settings.home)},
        folder=Path.cwd(),
        seconds=60.0,
        awaited=False,
    )


def _place(setting: str, url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if not host:
        raise InvalidSettings(f"{setting} is {url!r}; expected an address such as http://127.0.0.1:4590")
    return host, port


def _text(url: str) -> str | None:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return str(answer.read(100).decode(errors="replace").strip())
    return None
