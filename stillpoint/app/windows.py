"""A window says which of a key's events a feature sees as of t: a sliding length of time, or the current session."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from stillpoint.app.durations import label, micros

_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000


@dataclass(frozen=True, slots=True)
class Sliding:
    """The events in (t − length, t]. With a step, the older edge is rounded down to a whole number of steps.

    The newer edge is always exact, so a window with a step is at least as long as declared and at most one step longer.
    """

    length_us: int
    step_us: int | None = None

    @property
    def label(self) -> str:
        return label(self.length_us)

    def edge(self, at_us: int, part: int = 1) -> int:
        """Return the time after which events count as of `at_us`; `part` 2 is the newer half of the window.

        >>> Sliding(10).edge(100), Sliding(10, 4).edge(101), Sliding(10).edge(100, part=2)
        (90, 88, 95)
        """
        edge = at_us - self.length_us // part
        return edge if self.step_us is None else edge // self.step_us * self.step_us

    def __str__(self) -> str:
        if self.step_us is None:
            return f"the last {self.label}"
        return f"the last {self.label}, its older edge rounded down to {label(self.step_us)}"


@dataclass(frozen=True, slots=True)
class Session:
    """The maximal run of the view's events up to t in which no gap is longer than `gap_us`."""

    gap_us: int

    @property
    def label(self) -> str:
        return "session"

    def __str__(self) -> str:
        return f"the session, which ends after {label(self.gap_us)} without an event"


Window: TypeAlias = Sliding | Session


def sliding(length: timedelta, *, step: timedelta) -> Sliding:
    """Return a window whose older edge moves in steps, so that what is kept is a summary per step and not every event."""
    return Sliding(micros(length), micros(step))


def exact(length: timedelta) -> Sliding:
    """Return a window with two exact edges, however long; its events are kept one by one."""
    return Sliding(micros(length))


def session(gap: timedelta) -> Session:
    """Return the session window: it ends when the view's events pause for longer than `gap`."""
    return Session(micros(gap))


def window(over: "timedelta | Window") -> Window:
    """Return the window that a bare length means: exact below a day, in steps of an hour up to a week, then of a day."""
    if not isinstance(over, timedelta):
        return over
    length = micros(over)
    if length < _DAY_US:
        return Sliding(length)
    return Sliding(length, _HOUR_US if length <= 7 * _DAY_US else _DAY_US)
