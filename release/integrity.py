"""Verifies that a release is still exactly what its record says."""

import hashlib

from release import colour
from release.context import ReleaseContext
from release.models import load_models
from stillpoint.errors import ModelRefused, ObjectMissing, ReleaseRefused
from stillpoint.releases.records import Release
from stillpoint.stores.reading.plan import ReadPlan


def open_plan(context: ReleaseContext, release: Release) -> ReadPlan:
    """Return a release's read plan, verified.

    Raises:
        ReleaseRefused: it is missing, or is not the one that was recorded.
    """
    data = _stored(context, release, release.read_plan, release.read_plan_sha256, "read plan")
    return ReadPlan.from_json(data)


def refuse_changed(context: ReleaseContext, release: Release) -> None:
    """Make sure that registry, plan, models, encoder and the colour's fill marker match the record.

    Raises:
        ReleaseRefused: one of them does not; the text says which, what was found and what was recorded.
    """
    _stored(context, release, release.registry, release.registry_sha256, "frozen registry")
    open_plan(context, release)
    try:
        models = load_models(context.lake.objects, release.routes)
    except ModelRefused as error:
        raise ReleaseRefused(f"release {release.id}: {error}; prepare a new release") from None
    for sha256, bundle in models.items():
        if bundle.manifest.encoder_sha256 != release.encoder_sha256:
            raise ReleaseRefused(
                f"release {release.id}: model {sha256[:12]} was trained with text encoder "
                f"{bundle.manifest.encoder_sha256[:12]}; the release records {release.encoder_sha256[:12]}"
            )
        if bundle.manifest.mapping_version != release.mapping_version:
            raise ReleaseRefused(
                f"release {release.id}: model {sha256[:12]} is of mapping {bundle.manifest.mapping_version}; the release "
                f"records mapping {release.mapping_version}"
            )
    found = colour.fill_marker(context.online(release.colour), release.project)
    if not found.fill_complete or found.mapping_version != release.mapping_version:
        filled = "complete" if found.fill_complete else "not complete"
        raise ReleaseRefused(
            f"release {release.id}: {release.colour} holds mapping {found.mapping_version} and its fill is {filled}; "
            f"expected mapping {release.mapping_version}, complete: prepare a new release"
        )


def _stored(context: ReleaseContext, release: Release, key: str, recorded: str, what: str) -> bytes:
    try:
        data = context.lake.objects.get(key)
    except ObjectMissing:
        raise ReleaseRefused(
            f"release {release.id}: its {what} {key} is gone from {context.lake.root}; prepare a new release"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != recorded:
        raise ReleaseRefused(
            f"release {release.id}: {what} {context.lake.root}/{key} has sha256 {found}; its record says {recorded}: "
            "somebody changed it, prepare a new release"
        )
    return data
