"""The list of serving processes, with the release of each, and whether the announced release is loaded.

Every serving process writes a heartbeat: a JSON value in Redis (`settings.redis_serving`) that expires by Redis's own
clock, so that a dead process disappears from the list by itself. Notifications on a channel make changes known at once;
they may be lost, so listeners also poll the release book.
"""

import contextlib
import time
from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import RedisClusterException, RedisError

from stillpoint.errors import CorruptData
from stillpoint.stores.redis.client import RedisClient

TTL_SECONDS = 5.0
"""A worker that has not beaten for this long counts as dead."""
BEAT_SECONDS = 1.0
"""How often a worker beats; also at once after it has loaded or swapped a release."""
CHANNEL = "stillpoint:releases"

# One hash tag: in Redis Cluster the index and the values share a slot.
_PREFIX = "{stillpoint:presence}:"
_INDEX = _PREFIX + "workers"


class WorkerKind(StrEnum):
    """What kind of process answers. A Lambda freezes between invocations, so switches do not wait for one."""

    SERVICE = "service"
    WORKER = "worker"
    LAMBDA = "lambda"


class Presence(BaseModel):
    """One serving process. `generation` and `release` are what it answers new requests with; None before the first.

    Fields that only a newer version knows are ignored, so that versions may serve side by side during a deployment.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$", description="Unique per process and start.")
    kind: WorkerKind
    pid: int
    address: str = Field(description="`host:port` for a service, the host's name for the others.")
    generation: int | None
    release: str | None
    loaded: str | None = Field(
        default=None, description="The announced release that it has loaded and tried, ready to swap."
    )
    refused: str | None = Field(
        default=None, description="Why it cannot load the announced release; the switch repeats it."
    )
    canaries_wrong: int | None = Field(
        default=None,
        description="How many canaries of the release in use have another user's row; None before the first check.",
    )
    at: AwareDatetime


class Notification(BaseModel):
    """A message on the channel. It only says that something changed; the listener reads the release book."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["announced", "switched", "withdrawn", "ordered"] = Field(
        description="`ordered` means that the stream's targets or the erasures have changed."
    )
    generation: int = 0
    release: str = ""


def beat(client: RedisClient, presence: Presence, *, ttl_seconds: float = TTL_SECONDS) -> None:
    """Write this worker's heartbeat, replacing the one before."""
    pipeline = client.pipeline(transaction=False)
    pipeline.set(_PREFIX + presence.worker, presence.model_dump_json(), px=round(ttl_seconds * 1000))
    pipeline.sadd(_INDEX, presence.worker)
    pipeline.execute()


def leave(client: RedisClient, worker: str) -> None:
    """Remove this worker from the list. Without that, it is listed until its last heartbeat expires."""
    pipeline = client.pipeline(transaction=False)
    pipeline.delete(_PREFIX + worker)
    pipeline.srem(_INDEX, worker)
    pipeline.execute()


def present(client: RedisClient) -> list[Presence]:
    """Return the workers whose last beat has not expired, ordered by id.

    Raises:
        CorruptData: a beat cannot be read, for example one of another version of the product.
    """
    workers = sorted(name.decode() if isinstance(name, bytes) else name for name in client.smembers(_INDEX))
    if not workers:
        return []
    found, expired = [], []
    for worker, value in zip(workers, client.mget([_PREFIX + worker for worker in workers]), strict=True):
        if value is None:
            expired.append(worker)
            continue
        try:
            found.append(Presence.model_validate_json(value))
        except ValidationError as error:
            raise CorruptData(f"the beat of worker {worker} in Redis cannot be read: {error}") from None
    if expired:
        # A worker that beats in this very moment is back in the index with its next beat.
        client.srem(_INDEX, *expired)
    return found


def notify(client: RedisClient, notification: Notification) -> int:
    """Send a notification, and return the number of listeners; 0 is no error, since they poll too."""
    return int(client.publish(CHANNEL, notification.model_dump_json()))


ORDERED = Notification(what="ordered")


def nudge(client: RedisClient, notification: Notification) -> None:
    """Send a notification, ignoring outages of Redis: callers that wait for an effect send it again until it is seen."""
    with contextlib.suppress(RedisError, RedisClusterException, OSError):
        notify(client, notification)


class Notifications:
    """Listens to the channel. Survives a Redis that restarts or refuses the channel; news sent meanwhile are lost, and
    `renewed` says so."""

    def __init__(self, client: RedisClient) -> None:
        """`client` is shared; the subscription takes one connection of its own from it."""
        self._client = client
        self._subscription: Any = None
        self.renewed = False
        """Whether the last wait began to listen anew, so that news before it may have been lost."""

    def __enter__(self) -> "Notifications":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def wait(self, seconds: float) -> Notification | None:
        """Return the next notification, or None after `seconds`, or sooner if the connection was lost and came back.

        None says nothing about the book: poll it.
        """
        deadline = time.monotonic() + seconds
        self.renewed = False
        try:
            if self._subscription is None:
                self._subscription = self._client.pubsub()
                self._subscription.subscribe(CHANNEL)
            while (left := deadline - time.monotonic()) > 0:
                message = self._subscription.get_message(timeout=left)
                if (
                    message is not None and message["type"] == "subscribe"
                ):  # also after redis-py has connected anew by itself
                    self.renewed = True
                    return None
                if message is not None:
                    with contextlib.suppress(ValidationError):
                        return Notification.model_validate_json(message["data"])
        except (RedisError, RedisClusterException, OSError):
            self.close()
            time.sleep(max(0.0, min(0.2, deadline - time.monotonic())))
        return None

    def drain(self) -> None:
        """Drop all notifications sent so far; reading the book next covers all of them."""
        try:
            while self._subscription is not None and (message := self._subscription.get_message(timeout=0)) is not None:
                self.renewed |= message["type"] == "subscribe"
        except (RedisError, RedisClusterException, OSError):
            self.close()

    def close(self) -> None:
        """Return the connection to the pool."""
        if self._subscription is not None:
            with contextlib.suppress(RedisError):
                self._subscription.close()
            self._subscription = None
