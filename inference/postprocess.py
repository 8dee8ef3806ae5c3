"""What becomes of the scores before a person sees them?

Pure steps over places in the catalogue, best first: entitlement, what was just finished, diversity over categories.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from inference.catalogue import Catalogue
from stillpoint.messages import Kind

TODAY_CATEGORY_SHARE = 0.4
"""At most this share of a `today` list comes from one category, while others have something left."""


def order(scores: npt.NDArray[np.float64], places: npt.NDArray[np.intp]) -> list[int]:
    """Return the rows of `scores`, best first; equal scores in the catalogue's order, NaN last."""
    keys = np.where(np.isnan(scores), -np.inf, scores)
    return [int(row) for row in np.lexsort((places, -keys))]


def entitled(places: Sequence[int], catalogue: Catalogue, *, subscribed: bool | None) -> list[int]:
    """Keep what the person may play; a subscription that is not known counts as none."""
    return list(places) if subscribed else [place for place in places if place in catalogue.free]


def not_finished(places: Sequence[int], catalogue: Catalogue, finished: Collection[str]) -> list[int]:
    """Leave out what was just finished."""
    return [place for place in places if catalogue.content_ids[place] not in finished]


def diverse(places: Sequence[int], catalogue: Catalogue, kind: Kind, limit: int) -> list[int]:
    """Return up to `limit` places; in `today` no category takes more than its share unless nothing else is left."""
    if kind is not Kind.TODAY:
        return list(places[:limit])
    cap = max(1, int(np.ceil(limit * TODAY_CATEGORY_SHARE)))
    taken: list[int] = []
    held: list[int] = []
    counts: Counter[str] = Counter()
    for place in places:
        if len(taken) == limit:
            break
        category = catalogue.categories[place]
        if counts[category] < cap:
            counts[category] += 1
            taken.append(place)
        else:
            held.append(place)
    return taken + held[: limit - len(taken)]


def shown(
    places: Sequence[int],
    catalogue: Catalogue,
    kind: Kind,
    *,
    limit: int,
    subscribed: bool | None,
    finished: Collection[str],
) -> list[int]:
    """Return what is shown, of places that are ordered best first. `next` is a single best."""
    kept = not_finished(entitled(places, catalogue, subscribed=subscribed), catalogue, finished)
    return diverse(kept, catalogue, kind, 1 if kind is Kind.NEXT else limit)
