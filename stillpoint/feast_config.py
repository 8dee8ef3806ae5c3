"""The Feast configuration of a colour, and the release that a name means.

`feature_store.yaml` at the root is the sandbox on default ports. Everything else is derived here from the settings, as
documents and as files for `feast -f …`. Feast itself is not imported, since that takes seconds.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from stillpoint.errors import CorruptData, ReleaseRefused
from stillpoint.lake.objects import Objects
from stillpoint.releases.book import ReleaseBook
from stillpoint.releases.colour import SANDBOX, Colour, project_name
from stillpoint.releases.records import Release, State
from stillpoint.settings import Settings

Which = Literal["live", "idle", "blue", "green", "sandbox"]
NAMES: tuple[Which, ...] = ("live", "idle", "blue", "green", "sandbox")


def repo_document(settings: Settings, which: Colour | str, *, mapping_version: int | None = None) -> dict[str, Any]:
    """Return the content of a colour's (or the sandbox's) `feature_store.yaml`.

    Without a `mapping_version` the offline store refuses to read any id mapping.
    """
    aws = settings.aws_client_arguments()
    s3 = {
        "endpoint_url": aws.get("endpoint_url"),
        "region": aws["region_name"],
        "access_key_id": aws.get("aws_access_key_id"),
        "secret_access_key": aws.get("aws_secret_access_key"),
        "session_token": aws.get("aws_session_token"),
    }
    offline: dict[str, Any] = {
        "type": "stillpoint.stores.offline.StillpointOfflineStore",
        "lake_root": settings.lake,
        "created_cutoff": True,
        "s3": {name: value for name, value in s3.items() if value},
    }
    if mapping_version is not None:
        offline["mapping_version"] = mapping_version
    return {
        "project": project_name(which),
        "provider": "local",
        "registry": {
            "path": settings.registry_path(which),
            "cache_ttl_seconds": 60,
            "serve_features_while_materializing": True,
        },
        "online_store": {
            "type": "stillpoint.stores.online.StillpointOnlineStore",
            "connection_string": settings.connection(Colour(which) if which != SANDBOX else "sandbox"),
        },
        "offline_store": offline,
        "batch_engine": {"type": "stillpoint.stores.engine.StillpointEngine"},
        "entity_key_serialization_version": 3,
        # Without this, Feast silently takes spine times without a zone as UTC; the offline store refuses them instead.
        "coerce_tz_aware": False,
    }


def yaml_path(settings: Settings, which: Colour | str) -> Path:
    """Return where the generated file of a colour or of the sandbox lies."""
    return settings.home / f"feature_store.{which}.yaml"


def write_yaml(settings: Settings, which: Colour | str, *, mapping_version: int | None = None) -> Path:
    """Write one generated file, readable by its owner only since it may hold a password, and return its path."""
    path = yaml_path(settings, which)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "# Generated from the settings; edits are lost.\n" + yaml.safe_dump(
        repo_document(settings, which, mapping_version=mapping_version), sort_keys=False
    )
    staged = path.with_suffix(".staged")
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(staged, path)
    return path


def write_yamls(settings: Settings, book: ReleaseBook | None = None) -> list[Path]:
    """Write the files of both colours and of the sandbox; a colour is bound to the mapping of its newest release."""
    paths = [write_yaml(settings, SANDBOX, mapping_version=settings.mapping_version)]
    for colour in Colour:
        release = None if book is None else newest_release(book, colour)
        paths.append(write_yaml(settings, colour, mapping_version=release.mapping_version if release else None))
    return paths


def newest_release(book: ReleaseBook, colour: Colour) -> Release | None:
    """Return the newest release that fills a colour, leaving out retired and failed ones."""
    for release_id in reversed(book.releases()):
        release = book.get(release_id)
        steps = book.transitions(release_id)
        if release.colour is colour and (not steps or steps[-1].state not in (State.RETIRED, State.FAILED)):
            return release
    return None


def resolve(which: Which | Colour, book: ReleaseBook) -> tuple[Colour | Literal["sandbox"], Release | None]:
    """Return the colour that a name means now, and the release that fills it.

    Raises:
        ReleaseRefused: `which` is `live` or `idle`, and no release is live yet.
    """
    if which == SANDBOX:
        return "sandbox", None
    if which in ("live", "idle"):
        pointer = book.live()
        if pointer is None:
            raise ReleaseRefused("no release is live yet; run `stillpoint release prepare`, `check` and `switch` first")
        live = book.get(pointer.release)
        return (live.colour, live) if which == "live" else (live.colour.other, newest_release(book, live.colour.other))
    colour = Colour(which)
    return colour, newest_release(book, colour)


def frozen_registry(settings: Settings, objects: Objects, release: Release) -> Path:
    """Return a verified local copy of a release's frozen registry.

    Raises:
        CorruptData: the digest differs from the record's.
    """
    data = objects.get(release.registry)
    found = hashlib.sha256(data).hexdigest()
    if found != release.registry_sha256:
        raise CorruptData(
            f"{objects.root}/{release.registry} has sha256 {found}; release {release.id} records {release.registry_sha256}"
        )
    folder = settings.home / "frozen"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found}.pb"
    if not path.exists():
        staged = path.with_suffix(f".{os.getpid()}")
        staged.write_bytes(data)
        os.replace(staged, path)
    return path


@contextmanager
def feast_environment(settings: Settings, mapping_version: int | None) -> Iterator[None]:
    """Set what Feast and `feature_repo` read from the environment while a Feast command runs for a colour."""
    aws = settings.aws_client_arguments()
    wanted: dict[str, str | None] = {
        "STILLPOINT_MAPPING_VERSION": str(mapping_version or settings.mapping_version),
        "AWS_DEFAULT_REGION": aws["region_name"],
    }
    if "endpoint_url" in aws:
        wanted |= {"AWS_ENDPOINT_URL": aws["endpoint_url"], "FEAST_S3_ENDPOINT_URL": aws["endpoint_url"]}
    if "aws_access_key_id" in aws:
        wanted |= {
            "AWS_ACCESS_KEY_ID": aws["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": aws["aws_secret_access_key"],
            "AWS_SESSION_TOKEN": aws.get("aws_session_token"),
        }
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    """Set variables of the environment; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
