"""How far before a row its events can lie, for whoever reads just what is needed."""

from collections.abc import Iterable
from datetime import timedelta

from stillpoint.app.views import CustomView, StreamView
from stillpoint.app.windows import Sliding

SESSION = timedelta(days=1)
"""A session has no bound: what began longer before is computed from what is read."""


def reach(views: Iterable[type[StreamView]]) -> timedelta:
    """Return the length of the longest window of the views, its oldest step included."""
    return max(map(_of_view, views), default=timedelta(0))


def _of_view(view: type[StreamView]) -> timedelta:
    if issubclass(view, CustomView):
        return view.reach
    found = [SESSION]
    found += [
        timedelta(microseconds=one.window.length_us + (one.window.step_us or 0) + (view.step_us() or 0))
        for one in view.features()
        if isinstance(one.window, Sliding)
    ]
    return max(found)
