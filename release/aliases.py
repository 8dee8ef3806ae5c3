"""Keeps the registered model's MLflow aliases equal to what is live and to what each colour holds.

Aliases are set after a release verb has done its work: an error of MLflow gives a warning and fails nothing. Aliases follow from the
release book, so the next verb corrects what this one could not set.
"""

import json
import os
import subprocess
import sys
import urllib.error
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

from release.set_aliases import TrackingServer, set_aliases
from stillpoint.messages import Kind
from stillpoint.registered_models import LIVE, MODEL_NAME
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import GONE, Route

SECONDS = 60.0
REQUEST_SECONDS = 5.0
_PLACES = (LIVE, *(colour.value for colour in Colour))
ALIASES = frozenset(_PLACES) | {f"{place}-{kind}" for place, kind in product(_PLACES, Kind)}
"""All aliases that release verbs set and remove."""


def wanted(book: ObjectReleaseBook) -> dict[str, str]:
    """Return the digest of the model of each alias.

    A colour's alias names the model of its live release, else of the newest release recorded in it. Where kinds have different
    models, aliases are `green-sleep` and so on, and there is no plain `green`.
    """
    pointer, recorded = book.live(), set(book.releases())
    found = {}
    for history in book.histories():
        if history.intent.id in recorded and history.state not in GONE:
            found[history.intent.colour.value] = history.intent.routes
    if pointer is not None:
        release = book.get(pointer.release)
        found[LIVE] = found[release.colour.value] = release.routes
    return {alias: sha256 for place, routes in found.items() for alias, sha256 in _named(place, routes).items()}


def tell_mlflow(uri: str, aliases: Mapping[str, str], *, seconds: float = SECONDS) -> str | None:
    """Set the aliases at the tracking server or backend `uri`, and remove those of `ALIASES` that are not wanted.

    Returns None, or a sentence that says what could not be done. Raises nothing about MLflow.
    """
    try:
        unknown = _at_server(uri, aliases, seconds) if uri.startswith(("http://", "https://")) else None
        if unknown is None:
            unknown = _by_client(uri, aliases, seconds)
    except (OSError, ValueError, KeyError) as error:
        reason = str(getattr(error, "reason", None) or error)
        return (
            f"the release is as it should be, but MLflow at {_shown(uri)} keeps its former aliases: {reason}; "
            "the next release verb sets them"
        )
    if unknown:
        names = ", ".join(digest[:12] for digest in unknown)
        return f"MLflow has no version of {MODEL_NAME} for model {names}, so no alias names it; `stillpoint train` registers what it trains"
    return None


def _at_server(uri: str, aliases: Mapping[str, str], seconds: float) -> list[str] | None:
    """Return the digests that a server does not know; None if it wants credentials, which only MLflow's client has."""
    if "@" in urlsplit(uri).netloc:
        return None
    try:
        return set_aliases(TrackingServer(uri, seconds=min(REQUEST_SECONDS, seconds)), aliases, ALIASES)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return None
        if error.code == 404:
            return sorted(set(aliases.values()))
        raise


def _by_client(uri: str, aliases: Mapping[str, str], seconds: float) -> list[str]:
    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():  # MLflow's client would make the database.
        raise FileNotFoundError(f"there is no {path}")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "release.set_aliases"],
            input=json.dumps({"uri": uri, "wanted": dict(aliases), "ours": sorted(ALIASES)}),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"},
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it did not answer within {seconds:.0f} s") from None
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line.strip()]
        raise OSError(words[-1] if words else f"its client ended with code {done.returncode}")
    unknown: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
    return unknown


def _named(place: str, routes: Mapping[Kind, Route]) -> dict[str, str]:
    digests = {route.sha256 for route in routes.values()}
    if len(digests) == 1:
        return {place: digests.pop()}
    return {f"{place}-{kind}": route.sha256 for kind, route in routes.items()}


def _shown(uri: str) -> str:
    """Return an address without a password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
