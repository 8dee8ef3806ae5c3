"""Verifies that a release is still exactly what its record says."""

from release import colour
from release.context import ReleaseContext
from stillpoint.errors import ReleaseRefused
from stillpoint.releases.parts import verified_parts
from stillpoint.releases.records import Release


def refuse_changed(context: ReleaseContext, release: Release) -> None:
    """Make sure that registry, plan, models, encoder and the colour's fill marker match the record.

    Raises:
        ReleaseRefused: one of them does not; the text says which, what was found and what was recorded.
    """
    verified_parts(context.lake.objects, release)
    found = colour.fill_marker(context.online(release.colour), release.project)
    if not found.fill_complete or found.mapping_version != release.mapping_version:
        filled = "complete" if found.fill_complete else "not complete"
        raise ReleaseRefused(
            f"release {release.id}: {release.colour} holds mapping {found.mapping_version} and its fill is {filled}; "
            f"expected mapping {release.mapping_version}, complete: prepare a new release"
        )
