"""Erased users, keyed by HMAC, and the time that each erasure covers.

An erasure leaves a create-only object `erasures/<HMAC-SHA256 of the user id>/<microseconds>.json` in the lake. Without the
key nobody can test whether a user is among them. The object names hold all the information, so that one listing reads
them. A mark of the key is stored beside them, so that a process with another key is refused.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from stillpoint.clock import Clock, from_micros, to_micros
from stillpoint.errors import AlreadyExists, CorruptData, InvalidSettings, ObjectMissing
from stillpoint.lake.objects import Objects
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import redis_errors

PREFIX = "erasures/"
KEY_MARK = "key"
KEY_FILE = "erasure.key"
MARK_KEY = "stillpoint:erased"
REFRESH = timedelta(minutes=1)
ACKNOWLEDGED_KEY = "stream/erasures_acknowledged.json"
DIGITS = 20


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The erasures known at one moment. `count` never decreases from one reading to the next."""

    key: bytes = field(repr=False)
    until: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    count: int = 0

    def until_us(self, user_id: str) -> int | None:
        """Return up to which moment the user is erased (microseconds since 1970), or None."""
        return self.until.get(digest(self.key, user_id)) if self.until else None

    def covers(self, user_id: str, at_us: int) -> bool:
        """Return whether events of the user at this time (microseconds since 1970) are erased."""
        until = self.until_us(user_id)
        return until is not None and at_us <= until


def erasure_key(settings: Settings) -> bytes:
    """Return the secret key of tombstones: the setting, or on one machine a file of its home, made at the first call.

    Raises:
        InvalidSettings: the lake lies in real S3, where machines must share one key, and none is set.
    """
    given = settings.erasure_key.get_secret_value()
    if given:
        return given.encode()
    if settings.lake.startswith("s3://") and settings.aws_endpoint_url is None:
        raise InvalidSettings(
            f"STILLPOINT_ERASURE_KEY is missing; the tombstones of {settings.lake} need one secret that all parts share: "
            "make it once (`openssl rand -hex 32`), keep it as long as the data, and set it everywhere"
        )
    return _own_key(settings.home / KEY_FILE)


def _own_key(path: Path) -> bytes:
    """Return the key in a file that only its owner can read. Created atomically; of several processes one wins."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
        staged.touch(mode=0o600)
        try:
            staged.write_text(secrets.token_hex(32))
            with suppress(FileExistsError):
                os.link(staged, path)
        finally:
            staged.unlink()
    key = path.read_bytes().strip()
    if not key:
        raise InvalidSettings(
            f"{path} is empty; restore it from a backup, or set STILLPOINT_ERASURE_KEY to what it held"
        )
    return key


def digest(key: bytes, user_id: str) -> str:
    """Return the hex HMAC-SHA256 of a user id (RFC 2104)."""
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()


def read_tombstones(objects: Objects, key: bytes) -> Tombstones:
    """List the erasures.

    Raises:
        CorruptData: an object below `erasures/` is not a tombstone; ignoring it could bring an erased user back.
        InvalidSettings: the tombstones were made with another key, and would match no user under this one.
    """
    until: dict[str, int] = {}
    count = 0
    own = digest(key, KEY_MARK)
    for name in objects.list(PREFIX):
        who, _, moment = name.removeprefix(PREFIX).removesuffix(".json").partition("/")
        if who == KEY_MARK:
            if moment != own:
                raise InvalidSettings(
                    f"the tombstones in {objects.root}/{PREFIX} were made with another key; set STILLPOINT_ERASURE_KEY to "
                    f"that key, or restore {KEY_FILE} in the home: with a wrong one, the erased would come back"
                )
            continue
        if len(who) != hashlib.sha256().digest_size * 2 or not moment.isdigit():
            raise CorruptData(f"{objects.root}/{name} is no tombstone; move it away")
        until[who] = max(until.get(who, 0), int(moment))
        count += 1
    return Tombstones(key, MappingProxyType(until), count)


def bury(objects: Objects, key: bytes, users: Iterable[str], until: datetime) -> dict[str, str]:
    """Write a tombstone for each user, and return their digests by user. Writing it again changes nothing.

    Raises:
        InvalidSettings: earlier tombstones were made with another key.
    """
    read_tombstones(objects, key)
    with suppress(AlreadyExists):
        objects.create(f"{PREFIX}{KEY_MARK}/{digest(key, KEY_MARK)}.json", b"{}\n")
    moment = to_micros(until)
    text = f'{{"until": "{from_micros(moment).isoformat()}"}}\n'
    digests = {user: digest(key, user) for user in users}
    for who in digests.values():
        with suppress(AlreadyExists):
            objects.create(f"{PREFIX}{who}/{moment:0{DIGITS}d}.json", text.encode())
    return digests


def mark_erased(client: RedisClient, tombstones_key: bytes, user_id: str, until_us: int) -> None:
    """Tell serving of an erasure at once, in Redis (`settings.redis_serving`)."""
    client.hset(MARK_KEY, digest(tombstones_key, user_id), until_us)


class ErasureLookup:
    """Tells serving whether a user is erased, before and after it writes. Redis has erasures at once, the lake for good."""

    def __init__(self, client: RedisClient, objects: Objects, key: bytes, clock: Clock) -> None:
        self._client = client
        self._objects = objects
        self._key = key
        self._clock = clock
        self._known = Tombstones(key)
        self._read_at: datetime | None = None

    def __call__(self, user_id: str, at_us: int) -> bool:
        """Return whether events of a user at this time (microseconds since 1970) are erased."""
        (erased,) = self.of([(user_id, at_us)])
        return erased

    def of(self, moments: Sequence[tuple[str, int]]) -> list[bool]:
        """Return the answers for several (user id, microseconds) pairs, in order, in one round trip."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= REFRESH:
            self._known = read_tombstones(self._objects, self._key)
            self._read_at = now
        if not moments:
            return []
        with redis_errors(self._client):
            marks = self._client.hmget(MARK_KEY, [digest(self._key, user_id) for user_id, _ in moments])
        return [
            self._known.covers(user_id, at_us) or (mark is not None and at_us <= int(mark))
            for (user_id, at_us), mark in zip(moments, marks, strict=True)
        ]


def acknowledge_erasures(objects: Objects, count: int) -> None:
    """Record that the stream applies `count` tombstones: each of its later writes takes them into account."""
    objects.put(ACKNOWLEDGED_KEY, f'{{"count": {count}}}\n'.encode())


def acknowledged_erasures(objects: Objects) -> int:
    """Return how many tombstones the stream applies."""
    try:
        return int(json.loads(objects.get(ACKNOWLEDGED_KEY))["count"])
    except ObjectMissing:
        return 0
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"{objects.root}/{ACKNOWLEDGED_KEY} cannot be read: {error!r}") from None
