"""The parts that a release's record pins are fetched and compared with it: registry, read plan and models.

The gate asks before a switch and every server before it answers: what one takes, the other takes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from stillpoint.errors import ModelRefused, ObjectMissing, ReleaseRefused
from stillpoint.lake.objects import Objects
from stillpoint.messages import Kind
from stillpoint.model import ModelBundle
from stillpoint.releases.records import Release, Route
from stillpoint.stores.reading.plan import ReadPlan


@dataclass(frozen=True, slots=True)
class ReleaseParts:
    """What a release answers with; `models` by digest."""

    plan: ReadPlan
    models: Mapping[str, ModelBundle]


def verified_parts(objects: Objects, release: Release) -> ReleaseParts:
    """Return plan and models of a release, all of them, and its frozen registry, exactly as recorded.

    Raises:
        ReleaseRefused: one is missing or another one; the text says which, what was found and what was recorded.
    """
    _stored(objects, release, release.registry, release.registry_sha256, "frozen registry")
    plan = verified_plan(objects, release)
    try:
        models = load_models(objects, release.routes)
    except ModelRefused as error:
        raise ReleaseRefused(f"release {release.id}: {error}; prepare a new release") from None
    for sha256, bundle in models.items():
        refuse_other_encoder(release, bundle.manifest.encoder_sha256, f"model {sha256[:12]} was trained")
        if bundle.manifest.mapping_version != release.mapping_version:
            raise ReleaseRefused(
                f"release {release.id}: model {sha256[:12]} is of mapping {bundle.manifest.mapping_version}; the release "
                f"records mapping {release.mapping_version}"
            )
    return ReleaseParts(plan, models)


def verified_plan(objects: Objects, release: Release) -> ReadPlan:
    """Return a release's read plan, exactly as recorded.

    Raises:
        ReleaseRefused: it is missing, or is not the one that was recorded.
    """
    return ReadPlan.from_json(_stored(objects, release, release.read_plan, release.read_plan_sha256, "read plan"))


def refuse_other_encoder(release: Release, found: str, whose: str) -> None:
    """Make sure that an encoder is the release's; `whose` says who has it: "this process works".

    Raises:
        ReleaseRefused: it is another one.
    """
    if found != release.encoder_sha256:
        raise ReleaseRefused(
            f"release {release.id}: {whose} with text encoder {found[:12]}; the release records "
            f"{release.encoder_sha256[:12]}"
        )


def load_models(objects: Objects, routes: Mapping[Kind, Route]) -> dict[str, ModelBundle]:
    """Return each routed model by digest, its bytes verified.

    Raises:
        ReleaseRefused: an artifact is missing. ModelRefused: it is damaged, or not what its digest says.
    """
    return {route.sha256: load_model(objects, route) for route in {one.sha256: one for one in routes.values()}.values()}


def load_model(objects: Objects, route: Route) -> ModelBundle:
    """Return a routed model, its bytes verified.

    Raises:
        ReleaseRefused: the artifact is missing. ModelRefused: it is damaged, or not what its digest says.
    """
    try:
        data = objects.get(route.model_uri)
    except ObjectMissing:
        raise ReleaseRefused(
            f"there is no model {route.model_uri} under {objects.root}; `stillpoint train` writes it"
        ) from None
    return ModelBundle.load(data, expected_sha256=route.sha256)


def _stored(objects: Objects, release: Release, key: str, recorded: str, what: str) -> bytes:
    try:
        data = objects.get(key)
    except ObjectMissing:
        raise ReleaseRefused(
            f"release {release.id}: its {what} {key} is gone from {objects.root}; prepare a new release"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != recorded:
        raise ReleaseRefused(
            f"release {release.id}: {what} {objects.root}/{key} has sha256 {found}; its record says {recorded}: "
            "somebody changed it, prepare a new release"
        )
    return data
