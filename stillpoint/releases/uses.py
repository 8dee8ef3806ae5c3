"""The releases that still hold a colour, and read a feature for their models."""

from stillpoint.errors import ObjectMissing
from stillpoint.lake.objects import Objects
from stillpoint.releases.book import ReleaseBook
from stillpoint.releases.records import GONE
from stillpoint.stores.reading.plan import ReadPlan


def releases_that_use(book: ReleaseBook, objects: Objects, view: str, feature: str) -> dict[str, str]:
    """Return by release in which state it is, and which kinds its models answer."""
    found = {}
    for release_id in book.releases():
        state = book.state(release_id)
        if state is None or state in GONE:
            continue
        release = book.get(release_id)
        try:
            plan = ReadPlan.from_json(objects.get(release.read_plan), expected_sha256=release.read_plan_sha256)
        except ObjectMissing:
            continue
        read = plan.services.get(release.feature_service, ())
        if any(one.view == view and feature in one.features for one in read):
            found[release_id] = f"{state}: {', '.join(map(str, release.routes))}"
    return found
