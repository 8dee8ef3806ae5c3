"""Canary users of a release, whose sequence ids are known beforehand, so that the gate and the rehearsal notice another mapping."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from stillpoint.errors import CorruptData, ReleaseRefused
from stillpoint.features.declarations import USER_SEQUENCE
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import Objects
from stillpoint.lake.tables import Lake

COUNT = 20


@dataclass(frozen=True, slots=True)
class Canary:
    """A user and the sequence id that the release's mapping gives them."""

    user_id: str
    sequence_id: int


def canaries_key(release_id: str) -> str:
    """Return the key of the object that holds a release's canaries."""
    return f"releases/{release_id}/canaries.json"


def choose(lake: Lake, mapping_version: int, *, seed: int, count: int = COUNT) -> list[Canary]:
    """Return up to `count` users of a mapping in order of their ids, the same ones for the same seed. Reads the lake.

    Raises:
        ReleaseRefused: the lake holds no such mapping, or it gives two users one sequence id.
    """
    dataset = feature_dataset(USER_SEQUENCE, mapping_version)
    table = lake.read(dataset, columns=["user_id", "sequence_id"])
    pairs = sorted(set(zip(table["user_id"].to_pylist(), table["sequence_id"].to_pylist(), strict=True)))
    if not pairs:
        raise ReleaseRefused(
            f"the lake holds no id mapping {mapping_version} ({lake.root}/{dataset} is empty); `stillpoint train` writes it"
        )
    if len({sequence for _, sequence in pairs}) != len(pairs) or len({user for user, _ in pairs}) != len(pairs):
        raise ReleaseRefused(
            f"mapping {mapping_version} is not one to one ({len(pairs)} pairs, {len({user for user, _ in pairs})} users, "
            f"{len({sequence for _, sequence in pairs})} sequence ids): users would be mixed up; train again"
        )
    chosen = random.Random(f"{seed}:{mapping_version}").sample(pairs, min(count, len(pairs)))
    return [Canary(user, sequence) for user, sequence in sorted(chosen)]


def write(objects: Objects, release_id: str, mapping_version: int, canaries: Sequence[Canary]) -> None:
    """Write the canaries beside the release, where the gate's checks and the rehearsal read them. Serving reads none."""
    document = {
        "mapping_version": mapping_version,
        "canaries": [{"user_id": canary.user_id, "sequence_id": canary.sequence_id} for canary in canaries],
    }
    objects.put(canaries_key(release_id), (json.dumps(document, indent=1) + "\n").encode())


def read(objects: Objects, release_id: str) -> list[Canary]:
    """Return a release's canaries in the order in which they were written.

    Raises:
        CorruptData: the file is damaged.
    """
    key = canaries_key(release_id)
    try:
        document = json.loads(objects.get(key))
        return [Canary(item["user_id"], int(item["sequence_id"])) for item in document["canaries"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"{key} cannot be read: {error!r}") from None
