"""Chooses a release's canaries and writes them beside it."""

import json
import random
from collections.abc import Sequence

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.errors import ReleaseRefused
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import Objects
from stillpoint.lake.tables import Lake
from stillpoint.releases.canaries import Canary, canaries_key

COUNT = 20


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
    """Write the canaries beside the release."""
    document = {
        "mapping_version": mapping_version,
        "canaries": [{"user_id": canary.user_id, "sequence_id": canary.sequence_id} for canary in canaries],
    }
    objects.put(canaries_key(release_id), (json.dumps(document, indent=1) + "\n").encode())
