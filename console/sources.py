"""The clients of the console, built once by its entry point, and the context in which it runs release verbs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx

from stillpoint.cli.operator import operator
from stillpoint.clock import Clock, system_clock
from stillpoint.errors import StackUnavailable
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import connect

if TYPE_CHECKING:
    from release.context import ReleaseContext

_SECONDS = 5.0


def _silent(step: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Sources:
    """Settings, clock and clients. `service` is the address of the HTTP service that recommendations come from."""

    settings: Settings
    clock: Clock = system_clock
    _clients: dict[str, RedisClient] = field(default_factory=dict, repr=False)

    @cached_property
    def lake(self) -> Lake:
        """The lake, one for all readings: it keeps commits that it has read."""
        return open_lake(self.settings)

    @property
    def service(self) -> str:
        return f"http://{self.settings.http_host}:{self.settings.http_port}"

    @cached_property
    def http(self) -> httpx.Client:
        """A client of the HTTP service; thread-safe."""
        return httpx.Client(base_url=self.service, timeout=_SECONDS, trust_env=False)

    @cached_property
    def sqs(self) -> Any:
        """A client of the queues that answers soon or not at all."""
        import boto3
        from botocore.config import Config

        config = Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=2, read_timeout=5)
        make: Any = boto3.client
        return make("sqs", config=config, **self.settings.aws_client_arguments())

    def redis(self, connection: str) -> RedisClient:
        """Return the client of a connection string; equal strings share it."""
        if connection not in self._clients:
            self._clients[connection] = connect(connection)
        return self._clients[connection]

    @property
    def serving(self) -> RedisClient:
        return self.redis(self.settings.redis_serving.get_secret_value())

    def release_context(self, *, by: str | None = None, progress: Callable[[str], None] = _silent) -> "ReleaseContext":
        """Return the context of a release verb as the command line builds it; `by` is who runs the verb."""
        from release.context import ReleaseContext

        return ReleaseContext(
            settings=self.settings,
            lake=self.lake,
            serving=self.serving,
            connect=self.redis,
            clock=self.clock,
            operator=by or f"{operator()} (console)",
            progress=progress,
        )

    def ask(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        """Ask the HTTP service; `token` is an `Authorization` header of whoever asks.

        Raises:
            StackUnavailable: it does not answer.
        """
        headers = {} if token is None else {"Authorization": token}
        try:
            return self.http.request(method, path, headers=headers, **more)
        except httpx.TransportError as error:
            raise StackUnavailable(
                f"the HTTP service at {self.service} does not answer ({type(error).__name__}); start it with "
                "`stillpoint serve`, or correct STILLPOINT_HTTP_PORT"
            ) from error
