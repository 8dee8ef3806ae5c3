"""A whole simulated world from one seed: one population, one catalogue, one history."""

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property

import numpy as np
import pyarrow as pa

from simulation.behaviour import ShownLists, days_of, simulate_day
from simulation.catalogue import Catalogue, make_catalogue
from simulation.delivery import Delivery, deliver
from simulation.faults import Faults
from simulation.population import Population, make_population
from simulation.preference import bounce_probability, success_probability, utility
from stillpoint.clock import HOUR, to_micros
from stillpoint.errors import InvalidInput

TRUTH_COLUMNS = pa.schema(
    [
        pa.field("recommendation_id", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("success_probability", pa.float64(), nullable=False),
    ]
)
"""The true preference, for evaluation only: the chance that a shown content is started and not abandoned."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A simulated world. `start` is its first day; users and contents depend on it and on the seed, not on `days`."""

    start: date
    days: int = 7
    users: int = 2_000
    contents: int = 300
    seed: int = 7
    context_effect: bool = True
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if self.days < 1 or self.users < 1 or not 20 <= self.contents <= 5_000:
            raise InvalidInput(
                f"a scenario of {self.users} users, {self.days} days and {self.contents} contents cannot be simulated; "
                "expected at least 1 user, 1 day and 20 to 5000 contents"
            )
        for name in Faults.__dataclass_fields__:
            if not 0 <= getattr(self.faults, name) <= 1:
                raise InvalidInput(f"share {name} is {getattr(self.faults, name)}; expected 0 to 1")

    @property
    def midnight(self) -> datetime:
        """The scenario's first moment, UTC."""
        return datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)

    @cached_property
    def population(self) -> Population:
        return make_population(self.seed, count=self.users, start=self.midnight)

    @cached_property
    def catalogue(self) -> Catalogue:
        return make_catalogue(self.seed, count=self.contents, start=self.midnight)

    def dates(self) -> list[date]:
        """Return the scenario's days."""
        return days_of(self.start, self.days)

    def day(self, day: date) -> tuple[list[Delivery], ShownLists]:
        """Return what users do on one day, in order of arrival, and what they were shown."""
        actions, lists = simulate_day(
            self.population, self.catalogue, day, seed=self.seed, context_effect=self.context_effect
        )
        return deliver(actions, lists, self.population, self.catalogue, self.faults, seed=self.seed, day=day), lists

    def deliveries(self) -> Iterator[Delivery]:
        """Yield all records in order of arrival, one day of memory at a time."""
        waiting: list[Delivery] = []
        for day in self.dates():
            arriving, _ = self.day(day)
            waiting = list(heapq.merge(waiting, arriving, key=lambda one: one.arrived_us))
            # Nothing of the next local day happens before 20:00 UTC of this one, wherever users live.
            settled = bisect_left(waiting, _midnight_us(day) + 20 * HOUR, key=lambda one: one.arrived_us)
            yield from waiting[:settled]
            waiting = waiting[settled:]
        yield from waiting

    def preference(self, lists: ShownLists, rows: np.ndarray) -> np.ndarray:
        """Return what some lists' users would have wanted of the whole catalogue: (n, contents), the chance of each content
        to be started and not abandoned if all were shown."""
        users, context = lists.user[rows], lists.context(rows)
        items = np.broadcast_to(np.arange(self.contents), (len(users), self.contents))
        wanted = utility(self.population, self.catalogue, users, items, context, effect=self.context_effect)
        bounce = bounce_probability(self.catalogue, items, wanted, context, effect=self.context_effect)
        return success_probability(wanted, bounce)

    def truth(self, lists: ShownLists) -> pa.Table:
        """Return the true preference behind the lists that were shown."""
        shown = lists.items.shape[1]
        names = [f"r{number}" for number in lists.recommendation.tolist() for _ in range(shown)]
        contents = self.catalogue.content_ids[lists.items.ravel()].tolist()
        return pa.table([names, contents, lists.truth.ravel()], schema=TRUTH_COLUMNS)


def _midnight_us(day: date) -> int:
    return to_micros(datetime(day.year, day.month, day.day, tzinfo=UTC))
