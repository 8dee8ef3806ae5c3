"""Which contents are ranked for a kind, before any model is asked?

Up to `CANDIDATES` allowed contents are all ranked. Of a larger catalogue the nearest to the user's searches, the best by
the collaborative filter and the most popular are retrieved first, a third each.
"""

import numpy as np
import numpy.typing as npt

from inference.catalogue import Catalogue
from stillpoint.events import Category
from stillpoint.messages import Kind

CANDIDATES = 300
SLEEP_CATEGORIES = (Category.SLEEP, Category.MUSIC)
Places = npt.NDArray[np.intp]


def allowed(catalogue: Catalogue, kind: Kind) -> Places:
    """Return the places of the contents that a kind may show: sleep and music for `sleep`, all for the others."""
    return catalogue.of_categories(SLEEP_CATEGORIES) if kind is Kind.SLEEP else catalogue.all_places


def candidates(
    catalogue: Catalogue,
    kind: Kind,
    *,
    search: npt.NDArray[np.float32] | None,
    collaborative: npt.NDArray[np.float64] | None,
    limit: int = CANDIDATES,
) -> Places:
    """Return the places to rank, in the catalogue's order.

    `search` is the user's (256,) search embedding, None without one; `collaborative` one score per content, NaN where
    unknown, None for a new user. What is missing leaves its share to the others.
    """
    places = allowed(catalogue, kind)
    if len(places) <= limit:
        return places
    orders = [catalogue.popularity_rank[places].astype(np.float64)]
    if search is not None:
        orders.append(-(catalogue.titles[places] @ search))
    if collaborative is not None:
        orders.append(-collaborative[places])
    chosen: set[int] = set()
    sorted_orders = [np.argsort(np.nan_to_num(order, nan=np.inf), kind="stable") for order in orders]
    for rank in range(len(places)):
        for order in sorted_orders:
            if len(chosen) < limit:
                chosen.add(int(order[rank]))
        if len(chosen) >= limit:
            break
    return places[np.array(sorted(chosen), dtype=np.intp)]
