"""A release's canaries: users whose sequence ids are known beforehand, kept beside the release.

The gate, the rehearsal and every serving process read them, so that another id mapping is noticed wherever it takes effect.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from stillpoint.errors import CorruptData
from stillpoint.lake.objects import Objects


@dataclass(frozen=True, slots=True)
class Canary:
    """A user and the sequence id that the release's mapping gives them."""

    user_id: str
    sequence_id: int


def canaries_key(release_id: str) -> str:
    """Return the key of the object that holds a release's canaries."""
    return f"releases/{release_id}/canaries.json"


def read_canaries(objects: Objects, release_id: str) -> list[Canary]:
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


@dataclass(frozen=True, slots=True)
class CanaryFault:
    """A canary whose row is not the known one, in words. `missing`: it has no row, as after an erasure."""

    text: str
    missing: bool


def canary_faults(
    canaries: Sequence[Canary],
    sequence_ids: Sequence[int | None],
    versions: Sequence[int | None],
    mapping_version: int,
) -> list[CanaryFault]:
    """Compare the canaries' rows, in their order, with what is known of them.

    >>> canary_faults([Canary("ann", 4)], [5], [2], 2)
    [CanaryFault(text='ann: sequence id 5 of mapping 2, expected 4 of mapping 2', missing=False)]
    """
    return [
        CanaryFault(
            f"{canary.user_id}: sequence id {sequence} of mapping {version}, "
            f"expected {canary.sequence_id} of mapping {mapping_version}",
            missing=sequence is None,
        )
        for canary, sequence, version in zip(canaries, sequence_ids, versions, strict=True)
        if sequence != canary.sequence_id or version != mapping_version
    ]
