"""In which order an app's views stand in feature services, and so in the columns of a model.

Without it they stand in the order of files and lines, so that a renamed file would shuffle the columns.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from stillpoint.app.place import Place, here
from stillpoint.app.records import View


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOrder:
    """`first` are names of views; those that are not named follow, in the order of files and lines."""

    first: tuple[str, ...]
    place: Place = field(default_factory=here)


def ordered(views: Iterable[View], order: ViewOrder | None) -> Iterator[View]:
    """Yield views in an order.

    >>> from stillpoint.app import user
    >>> from stillpoint.app.records import Origin
    >>> a, b, c = (View(name=name, entity=user, origin=Origin.DAILY, ttl=None, features=(), description="") for name in "abc")
    >>> [view.name for view in ordered((a, b, c), ViewOrder(first=("c",)))]
    ['c', 'a', 'b']
    """
    first = () if order is None else order.first
    place = {name: number for number, name in enumerate(first)}
    yield from sorted(views, key=lambda view: place.get(view.name, len(place)))
