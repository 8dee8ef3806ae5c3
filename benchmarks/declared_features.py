"""Measures the engine of declared features: events a second, the size of a state, and how both grow with users.

    python benchmarks/declared_features.py [--events N] [--users N ...]

Twenty generic features over windows of 10 minutes, an hour and 30 days; states as bytes between micro-batches of 2,000. Every
known user has the state of somebody with a month of history, so that only their number differs. Then the state of a user with
a month of history, with and without a 30-day count. Seconds are the processor's. Prints a table, writes JSON, asserts nothing.
"""

import argparse
import random
import time
import uuid
from pathlib import Path

from _results import keep

from stillpoint.app import (
    Arrival,
    Event,
    StreamView,
    count,
    count_distinct,
    days,
    hours,
    last,
    mean,
    minutes,
    most_frequent,
    share,
    sum_,
    time_since_last,
    user,
)
from stillpoint.clock import DAY, HOUR, SECOND
from stillpoint.features.streamed.engine import Engine
from stillpoint.features.streamed.state import UserState

START = 1_767_225_600 * SECOND
BATCH = 2_000
PATTERNS = 40
"""So many different histories do the known users have."""
RECENT = [minutes(10), hours(1), days(30)]


class Viewed(Event):
    item_id: str
    category: str


class Bought(Viewed):
    price: float


class Seen(Viewed):
    """A view of an item, and nothing more."""


class Twenty(StreamView):
    """Twenty features over three windows."""

    entity = user
    views = count(Seen, over=RECENT)
    purchases = count(Bought, over=RECENT)
    spent = sum_(Bought.price, over=RECENT)
    price = mean(Bought.price, over=RECENT)
    top_category = most_frequent(Seen.category, over=RECENT)
    items = count_distinct(Seen.item_id, over=RECENT[:2])
    since_purchase = time_since_last(Bought, over=days(30))
    last_category = last(Seen.category, over=days(30))
    conversion = share(Bought, of=Seen, on="item_id", over=hours(1))


class Short(StreamView):
    """A count of ten minutes."""

    entity = user
    few = count(Seen, over=minutes(10))


class Long(StreamView):
    """The same, and a count of thirty days."""

    entity = user
    few = count(Seen, over=minutes(10))
    many = count(Seen, over=days(30))


def recorded(count: int, users: int, span_us: int, seed: int) -> list[Arrival]:
    """Return events of random users, spread evenly, up to five seconds out of order."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        moment = START + span_us * number // count
        key = uuid.UUID(int=rng.getrandbits(128))
        fields = {
            "schema_version": 1,
            "event_id": str(key),
            "user_id": f"u{rng.randrange(users)}",
            "event_timestamp": "2026-01-01T00:00:00Z",
            "platform": "ios",
            "item_id": f"i{rng.randrange(300)}",
            "category": f"c{rng.randrange(12)}",
        }
        bought = rng.random() < 0.15
        event = Bought(**fields, price=round(rng.random() * 100, 2)) if bought else Seen(**fields)
        found.append(Arrival(event, moment - rng.randrange(5 * SECOND), moment + SECOND, key.bytes))
    return found


def known_states(engine: Engine, users: int) -> dict[str, bytes]:
    """Return a state for each of so many users, all copies of those of users with a month of history."""
    month = [
        one._replace(event_us=one.event_us - 31 * DAY, arrived_us=one.arrived_us - 31 * DAY)
        for one in recorded(6_000, PATTERNS, 31 * DAY, 5)
    ]
    _, own = replayed(engine, month, {})
    patterns = list(own.values())
    # The detour makes each copy an object of its own, with a place of its own in memory.
    return {f"u{number}": bytes(bytearray(patterns[number % len(patterns)])) for number in range(users)}


def replayed(
    engine: Engine, arrivals: list[Arrival], states: dict[str, bytes], batch: int = BATCH
) -> tuple[float, dict[str, bytes]]:
    """Return the processor's seconds, and every user's state behind the given ones."""
    started = time.process_time()
    for first in range(0, len(arrivals), batch):
        users: dict[str, list[Arrival]] = {}
        for one in arrivals[first : first + batch]:
            users.setdefault(one.event.user_id, []).append(one)
        for who, own in users.items():
            outcome = engine.advance(UserState.from_bytes(states.get(who, b"")), own)
            states[who] = outcome.state.to_bytes()
    return time.process_time() - started, states


def section_bytes(view: type[StreamView], arrivals: list[Arrival]) -> float:
    """Return the bytes that a view's section takes in a user's state, on average."""
    engine = Engine([view], max_event_age_us=DAY)
    _, states = replayed(engine, arrivals, {})
    sections = [section for state in states.values() for section in UserState.from_bytes(state).sections.values()]
    return sum(len(section.data) for section in sections) / len(sections)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=20_000)
    arguments.add_argument("--users", type=int, nargs="+", default=[10_000, 200_000])
    asked = arguments.parse_args()
    engine = Engine([Twenty], max_event_age_us=DAY)
    rates = {}
    for users in asked.users:
        states = known_states(engine, users)
        seconds, states = replayed(engine, recorded(asked.events, users, HOUR, users), states)
        rates[users] = asked.events / seconds
        size = sum(map(len, states.values())) / len(states)
        print(
            f"{len(Twenty.features())} features, {users:>7} users: {rates[users]:8.0f} events/s, {size:6.0f} bytes a user"
        )
    month = recorded(6_000, 20, 31 * DAY, 7)
    short, long = section_bytes(Short, month), section_bytes(Long, month)
    print(f"a 30-day count beside one of 10 minutes: {long - short:.0f} bytes more (a month of daily events)")
    keep({"events_per_second": rates, "month_bytes": long - short, "file": Path(__file__).name})


if __name__ == "__main__":
    main()
