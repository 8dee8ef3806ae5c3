"""Sets the registered model's aliases, over a tracking server's REST API or by MLflow's own client.

The REST API takes milliseconds. `python -m release.set_aliases` is for what it cannot reach (a local backend, a server that
wants credentials): MLflow's client, whose import takes seconds, in a process that `release/aliases.py` may kill.
It reads `{"uri", "wanted": {alias: digest}, "ours": [alias]}` and prints the digests that MLflow does not know.
"""

import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from stillpoint.registered_models import DIGEST_TAG, MODEL_NAME


class Registry(Protocol):
    """The registered model as far as aliases need it. Versions are decimal strings."""

    def aliases(self) -> dict[str, str]: ...
    def versions(self, digest: str) -> list[str]: ...
    def put(self, alias: str, version: str) -> None: ...
    def remove(self, alias: str) -> None: ...


def set_aliases(registry: Registry, wanted: Mapping[str, str], ours: Collection[str]) -> list[str]:
    """Set the aliases in `ours` to the models in `wanted`; return the digests that have no registered version.

    An alias whose model is not registered is removed, so that it does not go on naming another model. Of several versions with one
    digest (the same model was trained twice), the newest gets the alias.
    """
    present = registry.aliases()
    versions = {digest: max(registry.versions(digest), key=int, default=None) for digest in set(wanted.values())}
    for alias in sorted(ours):
        version = versions.get(wanted.get(alias, ""))
        if version is None and alias in present:
            registry.remove(alias)
        elif version is not None and present.get(alias) != version:
            registry.put(alias, version)
    return sorted(digest for digest, version in versions.items() if version is None)


class TrackingServer:
    """A tracking server without credentials. Raises OSError, of which `urllib.error.HTTPError` is one."""

    def __init__(self, uri: str, *, seconds: float) -> None:
        self._root = f"{uri.rstrip('/')}/api/2.0/mlflow"
        self._seconds = seconds

    def aliases(self) -> dict[str, str]:
        found = self._ask("GET", f"registered-models/get?{urllib.parse.urlencode({'name': MODEL_NAME})}")
        return {one["alias"]: str(one["version"]) for one in found["registered_model"].get("aliases", [])}

    def versions(self, digest: str) -> list[str]:
        asked = urllib.parse.urlencode({"filter": _filter(digest)})
        found = self._ask("GET", f"model-versions/search?{asked}")
        return [str(one["version"]) for one in found.get("model_versions", [])]

    def put(self, alias: str, version: str) -> None:
        self._ask("POST", "registered-models/alias", {"name": MODEL_NAME, "alias": alias, "version": version})

    def remove(self, alias: str) -> None:
        self._ask("DELETE", "registered-models/alias", {"name": MODEL_NAME, "alias": alias})

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self._root}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=self._seconds) as answer:
            return json.load(answer)


class AliasClient:
    """MLflow's own client, for any backend that it knows. Raises `MlflowException`."""

    def __init__(self, uri: str) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(uri)

    def aliases(self) -> dict[str, str]:
        found = self._client.get_registered_model(MODEL_NAME).aliases
        return {alias: str(version) for alias, version in found.items()}

    def versions(self, digest: str) -> list[str]:
        return [str(one.version) for one in self._client.search_model_versions(_filter(digest))]

    def put(self, alias: str, version: str) -> None:
        self._client.set_registered_model_alias(MODEL_NAME, alias, version)

    def remove(self, alias: str) -> None:
        self._client.delete_registered_model_alias(MODEL_NAME, alias)


def _filter(digest: str) -> str:
    return f"name = '{MODEL_NAME}' and tags.`{DIGEST_TAG}` = '{digest}'"


def main() -> int:
    """Do what the input says. Return 1 with a sentence if MLflow refuses."""
    from mlflow.exceptions import MlflowException

    task = json.load(sys.stdin)
    try:
        unknown = set_aliases(AliasClient(task["uri"]), task["wanted"], task["ours"])
    except MlflowException as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(json.dumps(unknown))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
