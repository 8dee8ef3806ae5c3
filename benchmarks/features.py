"""Measures the feature computation alone: events a second, where the time goes, and how it grows with known users.

    python benchmarks/features.py [--events N] [--users N ...] [--active N] [--rounds N]

Replays a generated recording through parse, verdicts and all streamed views in micro-batches, states as bytes in between,
down to the tables for the lake and the bytes that both colours are sent. Beforehand every known user gets the state of
somebody with some minutes of history. Seconds are those of the processor, which other programs lengthen only a little; the
sizes take turns in rounds and the cheapest round counts. Prints a table and one JSON line; asserts nothing.
"""

import argparse
import random
import time
import uuid
from collections import defaultdict
from typing import Any

import _of_tests  # noqa: F401
import orjson
from _results import keep

from stillpoint.app.events import Arrival
from stillpoint.app.load import load_app
from stillpoint.clock import DAY, SECOND, from_micros
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.events.parsing import ParsedEvent, PayloadParser
from stillpoint.events.types import Category, EventType
from stillpoint.features.columns import Row, rows_table
from stillpoint.features.streamed.history import AppHistory
from stillpoint.features.streamed.state import UserState
from stillpoint.features.streamed.stream import AppStream
from stillpoint.releases.colour import Colour, project_name
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import pack_rows
from tests.support.wellness import STREAMED_VIEWS

START = 1_767_225_600 * SECOND
BATCH = 2_000
WARM = 20_000
STRIDE = 7_919
"""Neighbours in time lie far apart in memory."""
STAGES = ("parse", "embed", "state bytes", "advance", "tables", "both colours' bytes", "total")
KINDS = [EventType.LOGIN, EventType.NAVIGATION, EventType.SEARCH, EventType.CONTENT_START, EventType.CONTENT_EXIT]
WEIGHTS = [5, 25, 8, 16, 16]
WORDS = [
    "sleep",
    "exam",
    "rain",
    "focus",
    "running",
    "calm",
    "anxiety",
    "piano",
    "deep",
    "morning",
    "walk",
    "breathe",
    "night",
    "story",
    "work",
]
ACTIVE = 400
APP = load_app("feature_repo")
PARSER = PayloadParser(APP.events)


def recording(
    count: int, users: int, *, seed: int = 7, active: int = ACTIVE, start_us: int = START
) -> list[tuple[bytes, int]]:
    """Return payloads with arrivals, 500 a second; at any time `active` users are active, as in an app."""
    chance = random.Random(seed)
    found = []
    plays: dict[int, str] = {}
    for number in range(count):
        arrived_us = start_us + number * SECOND // 500
        shift = number // 200
        user = (shift + chance.randrange(min(active, users))) * STRIDE % users
        event_us = arrived_us - int(chance.expovariate(1 / 3) * SECOND)
        fields: dict[str, object] = {}
        if chance.random() < 0.3:
            kind = EventType.BIOMETRIC
            fields = {"heart_rate_bpm": chance.uniform(55, 150), "steps": chance.randrange(60)}
        else:
            kind = chance.choices(KINDS, WEIGHTS)[0]
        if kind is EventType.NAVIGATION:
            fields = {"screen": "home"}
        elif kind is EventType.SEARCH:
            fields = {"query": " ".join(chance.sample(WORDS, 3))}
        elif kind in (EventType.CONTENT_START, EventType.CONTENT_EXIT):
            if kind is EventType.CONTENT_START or user not in plays:
                plays[user] = str(uuid.UUID(int=chance.getrandbits(128)))
            fields = {"play_id": plays[user], "content_id": "c1", "category": chance.choice(list(Category))}
            if kind is EventType.CONTENT_EXIT:
                fields["position_seconds"] = chance.uniform(0, 300)
        event_id = str(uuid.UUID(int=chance.getrandbits(128)))
        moment = from_micros(event_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        envelope = {"schema_version": 1, "event_id": event_id, "user_id": f"u{user}", "type": kind}
        document = {**envelope, "event_timestamp": moment, "platform": "ios", **fields}
        found.append((orjson.dumps(document), arrived_us))
    return found


def parsed(records: list[tuple[bytes, int]]) -> list[Arrival]:
    """Return the events."""
    events = [PARSER.parse(payload, arrived_us) for payload, arrived_us in records]
    return [event.arrival for event in events if isinstance(event, ParsedEvent)]


def known_states(records: list[tuple[bytes, int]], users: int, encoder: RememberingEncoder) -> dict[str, bytes]:
    """Return a state for each of so many users: those of the recording's users, copied to all others."""
    by_user: dict[str, list[Arrival]] = defaultdict(list)
    for event in parsed(records):
        by_user[event.user_id].append(event)
    stream = AppStream(APP, encoder=encoder, max_event_age_us=DAY)
    own = {user: stream.advance(UserState(), events).state.to_bytes() for user, events in by_user.items()}
    patterns = list(own.values())
    # The detour makes each copy an object of its own, with a place of its own in memory.
    return {f"u{n}": own.get(f"u{n}") or bytes(bytearray(patterns[n % len(patterns)])) for n in range(users)}


def replay(records: list[tuple[bytes, int]], states: dict[str, bytes], encoder: RememberingEncoder) -> dict[str, float]:
    """Return seconds by stage, and sizes, of one replay; `states` holds everybody's afterwards."""
    spent: dict[str, float] = defaultdict(float)
    layouts = {view.name: ViewLayout.of(view) for view in STREAMED_VIEWS}
    stream = AppStream(APP, encoder=encoder, max_event_age_us=DAY)
    clock = time.process_time
    for first in range(0, len(records), BATCH):
        began = clock()
        events = parsed(records[first : first + BATCH])
        after_parse = clock()
        by_user: dict[str, list[Arrival]] = defaultdict(list)
        for event in events:
            by_user[event.user_id].append(event)
        encoder.prefetch(stream.texts(events))
        encoded = clock()
        rows: dict[str, list[Row]] = defaultdict(list)
        for user_id, own in by_user.items():
            loaded = clock()
            state = stream.state(states[user_id])
            ready = clock()
            outcome = stream.advance(state, own)
            advanced = clock()
            states[user_id] = outcome.state.to_bytes()
            spent["state bytes"] += clock() - advanced + ready - loaded
            spent["advance"] += advanced - ready
            for name, found in outcome.rows.items():
                rows[name] += found
        computed = clock()
        tables = {view.name: rows_table(view, rows[view.name]) for view in STREAMED_VIEWS if rows[view.name]}
        tabled = clock()
        for colour in Colour:
            for name, table in tables.items():
                pack_rows(layouts[name], table, project_name(colour))
        packed = clock()
        spent["parse"] += after_parse - began
        spent["embed"] += encoded - after_parse
        spent["tables"] += tabled - computed
        spent["both colours' bytes"] += packed - tabled
        spent["total"] += packed - began
        spent["rows"] += sum(map(len, rows.values()))
        spent["users a batch"] += len(by_user) * BATCH / len(records)
    return dict(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--active", type=int, default=ACTIVE, help="users who are active at the same time")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    encoder = RememberingEncoder(WordLlamaEncoder())
    worlds = {}
    for users in arguments.users:
        records = recording(WARM + arguments.events, users, active=arguments.active)
        worlds[users] = (records[WARM:], known_states(records[:WARM], users, encoder))
    best: dict[int, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for users, (records, states) in worlds.items():
            spent = replay(records, dict(states), encoder)
            if users not in best or spent["total"] < best[users]["total"]:
                best[users] = spent
    results = [result(users, best[users], *world) for users, world in worlds.items()]
    smallest, largest = results[0]["us_per_event"]["total"], results[-1]["us_per_event"]["total"]
    print(f"{results[-1]['users']} known users cost {largest / smallest:.2f} of {results[0]['users']} per event")
    views = per_row(parsed(worlds[arguments.users[-1]][0]), encoder)
    keep({"replays": results, "us_per_row": views})


def result(
    users: int, spent: dict[str, float], records: list[tuple[bytes, int]], states: dict[str, bytes]
) -> dict[str, Any]:
    """Print and return the figures of one number of users."""
    per_event = {stage: spent[stage] / len(records) * 1e6 for stage in STAGES}
    sizes = sorted(map(len, states.values()))
    found = {
        "users": users,
        "events_per_second": round(len(records) / spent["total"]),
        "us_per_event": per_event,
        "rows": spent["rows"],
        "users_a_batch": round(spent["users a batch"]),
        "state_bytes_p50": sizes[len(sizes) // 2],
        "state_bytes_max": sizes[-1],
    }
    print(
        f"{users:>8} known users: {found['events_per_second']:>7} events per second of one core; µs per event: "
        + ", ".join(f"{stage} {value:.1f}" for stage, value in per_event.items())
    )
    return found


def per_row(events: list[Arrival], encoder: RememberingEncoder) -> dict[str, float]:
    """Print and return the microseconds per row of each view, computed from history."""
    views = {}
    history = AppHistory(APP, encoder)
    for view in STREAMED_VIEWS:
        began = time.process_time()
        found = history.rows(view.name, events)
        views[view.name] = (time.process_time() - began) / max(1, len(found)) * 1e6
        print(f"{view.name:>22}: {views[view.name]:.1f} µs per row from history ({len(found)} rows)")
    return views


if __name__ == "__main__":
    main()
