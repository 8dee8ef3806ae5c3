"""Removes a user from the old versions that a versioned bucket keeps of what was deleted or replaced.

A versioned S3 bucket keeps a deleted file as a version of its key. Versions with data of the user are deleted; all others stay, since
a damaged object is restored from them. Versions that may not be deleted are counted, and the receipt says until when they stay.
"""

import gzip
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.erasure.beside import ARTIFACTS, OWN_DOCUMENTS, is_ours
from privacy.erasure.files import users_in
from privacy.erasure.receipt import RemainingCopies
from privacy.erasure.rows import mentioned
from stillpoint.errors import ObjectMissing, StackUnavailable
from stillpoint.lake.objects import Objects, OldVersion, S3Objects

log = logging.getLogger(__name__)

_AT_ONCE = 8
_DENIED = frozenset({"AccessDenied", "MethodNotAllowed"})


@dataclass(slots=True)
class VersionErasure:
    """The number of deleted versions by user, and why others that may contain the users were not deleted."""

    deleted: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)


def purge_versions(objects: S3Objects, users: Set[str], committed: Collection[str]) -> VersionErasure:
    """Delete the old versions of our files that contain users. It can be repeated after a kill.

    `committed` are the datasets that commits name. Nobody reads an old version, so nobody is waited for.

    Raises:
        StackUnavailable: the bucket cannot be reached. A missing permission is no outage: it is reported in `kept`.
    """
    found = VersionErasure()
    try:
        if not objects.versioned():
            return found
        versions = (one for one in objects.old_versions() if _is_ours(one.key, set(committed)))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while part := list(islice(versions, _AT_ONCE)):
                for outcome in pool.map(lambda one: _purged(objects, one, users), part):
                    if isinstance(outcome, str):
                        found.kept.append(outcome)
                    else:
                        found.deleted.update(outcome)
    except StackUnavailable as error:
        found.kept.append(_denied(error, "the bucket's versions"))
    return found


def forget_versions(objects: Objects, key: str) -> None:
    """Delete all old versions of a deleted object that named the user; a missing permission is only logged."""
    try:
        if isinstance(objects, S3Objects) and objects.versioned():
            for version in objects.old_versions(key):
                objects.delete_version(version)
    except StackUnavailable as error:
        log.warning("old versions stay: %s", _denied(error, key))


def remaining_versions(
    found: VersionErasure, lifecycle: Callable[[], Any], *, bucket: str, prefix: str, now: datetime
) -> Iterator[RemainingCopies]:
    """Return, for versions that could not be deleted, until when the bucket's lifecycle rules keep them.

    `lifecycle` returns what S3 answers to GetBucketLifecycleConfiguration, or raises.
    """
    if not found.kept:
        return
    days = _days(lifecycle, prefix)
    until = None if days is None else now + timedelta(days=days + 1)  # S3 removes within the day after
    rule = "no lifecycle rule removes them" if days is None else f"a lifecycle rule removes them after {days} days"
    why = f"{len(found.kept)} old versions may hold the user and could not be deleted: {found.kept[0]}; {rule}"
    yield RemainingCopies(place=f"versions in bucket {bucket}", why=why, until=until)


def _days(lifecycle: Callable[[], Any], prefix: str) -> int | None:
    """Return after how many days the rules remove old versions below a prefix, or None if no rule covers all of them."""
    try:
        rules = lifecycle()["Rules"]
    except Exception:  # noqa: BLE001  without rules S3 answers with an error; what cannot be asked is not known either
        return None
    found = []
    for rule in rules:
        expiry = rule.get("NoncurrentVersionExpiration", {})
        about_all = rule.get("Filter", {}) or {"Prefix": rule.get("Prefix", "")}
        if (
            rule.get("Status") == "Enabled"
            and "NoncurrentDays" in expiry
            and not expiry.get("NewerNoncurrentVersions")
            and set(about_all) == {"Prefix"}
            and prefix.startswith(about_all["Prefix"])
        ):
            found.append(int(expiry["NoncurrentDays"]))
    return min(found, default=None)


def _is_ours(key: str, committed: set[str]) -> bool:
    return key.startswith((*OWN_DOCUMENTS, ARTIFACTS, "snapshots/")) or is_ours(key, committed)


def _purged(objects: S3Objects, version: OldVersion, users: Set[str]) -> set[str] | str:
    """Delete a version if it contains users, and return which; or the reason why it could not be deleted."""
    try:
        found = _users_in(objects.get_version(version), version.key, users)
        if found:
            objects.delete_version(version)
    except ObjectMissing:
        return set()  # somebody else has removed it
    except StackUnavailable as error:
        return _denied(error, f"version {version.id} of {version.key}")
    return found


def _users_in(data: bytes, key: str, users: Set[str]) -> set[str]:
    """Return the users whom bytes mention. Bytes that cannot be read count as if they mentioned all."""
    try:
        if key.endswith(".parquet"):
            return set(users_in(pq.ParquetFile(pa.BufferReader(data)), users))
        text = gzip.decompress(data) if key.endswith(".gz") else data
    except (pa.ArrowException, OSError, EOFError, zlib.error):
        return set(users)
    return mentioned(text, users) | mentioned(key.replace(".", " ").encode(), users)


def _denied(error: StackUnavailable, what: str) -> str:
    response: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    code = response.get("Error", {}).get("Code")
    if code not in _DENIED:
        raise error
    return f"{what}: {code}"
