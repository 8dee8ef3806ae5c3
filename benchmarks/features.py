"""How many events a second does the computation alone manage, and where does the time go?

    python benchmarks/features.py [--events N] [--users N ...]

Replays a generated recording through parse, verdicts and all streamed views in micro-batches, states as bytes in
between, on one core. Prints a table and one JSON line; asserts nothing.
"""

import argparse
import json
import random
import time
import uuid
from collections import defaultdict

from stillpoint.clock import DAY, SECOND
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.events import Category, EventType, Platform
from stillpoint.features.declarations import STREAMED_VIEWS
from stillpoint.features.history import history_rows
from stillpoint.features.state import UserState, advance
from stillpoint.features.validate import AppEvent, parse, to_payload

START = 1_767_225_600 * SECOND
BATCH = 2_000
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


def recording(count: int, users: int, seed: int = 7) -> list[tuple[bytes, int]]:
    """Return payloads with arrivals; at any time some hundred users are active, as in an app, half with a watch."""
    chance = random.Random(seed)
    found = []
    plays: dict[int, str] = {}
    for number in range(count):
        arrived_us = START + number * SECOND // 500
        shift = number // 200
        user = (shift + chance.randrange(min(ACTIVE, users))) % users
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
        event = AppEvent(event_id, f"u{user}", kind, event_us, arrived_us, Platform.IOS, **fields)  # type: ignore[arg-type]
        found.append((to_payload(event), arrived_us))
    return found


def replay(records: list[tuple[bytes, int]], known_users: int) -> dict[str, float]:
    """Return seconds by stage, and sizes, of one replay."""
    encoder = RememberingEncoder(WordLlamaEncoder())
    states: dict[str, bytes] = {f"u{n}": b"" for n in range(known_users)}
    spent: dict[str, float] = defaultdict(float)
    rows = 0
    clock = time.perf_counter
    for first in range(0, len(records), BATCH):
        began = clock()
        events = [parse(payload, arrived_us) for payload, arrived_us in records[first : first + BATCH]]
        parsed = clock()
        by_user: dict[str, list[AppEvent]] = defaultdict(list)
        for event in events:
            assert isinstance(event, AppEvent), event
            by_user[event.user_id].append(event)
        encoder.prefetch(event.query for own in by_user.values() for event in own if event.query)
        encoded = clock()
        for user_id, own in by_user.items():
            loaded = clock()
            state = UserState.from_bytes(states.get(user_id, b""))
            ready = clock()
            outcome = advance(state, own, encoder=encoder, max_event_age_us=DAY)
            advanced = clock()
            states[user_id] = outcome.state.to_bytes()
            spent["state bytes"] += clock() - advanced + ready - loaded
            spent["advance"] += advanced - ready
            rows += sum(map(len, outcome.rows.values()))
        spent["parse"] += parsed - began
        spent["embed"] += encoded - parsed
        spent["total"] += clock() - began
    sizes = sorted(len(state) for state in states.values() if state)
    return {**spent, "rows": rows, "state bytes p50": sizes[len(sizes) // 2], "state bytes max": sizes[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 200_000])
    arguments = parser.parse_args()
    results = []
    for users in arguments.users:
        records = recording(arguments.events, users)
        spent = replay(records, users)
        per_event = {
            stage: seconds / len(records) * 1e6
            for stage, seconds in spent.items()
            if stage in ("parse", "embed", "state bytes", "advance", "total")
        }
        results.append(
            {
                "users": users,
                "events_per_second": len(records) / spent["total"],
                "us_per_event": per_event,
                **{k: v for k, v in spent.items() if k not in per_event},
            }
        )
        print(
            f"{users:>8} known users: {len(records) / spent['total']:>8.0f} events/s on one core; µs per event: "
            + ", ".join(f"{k} {v:.1f}" for k, v in per_event.items())
        )
    events = [event for payload, arrived in records if isinstance(event := parse(payload, arrived), AppEvent)]
    encoder = RememberingEncoder(WordLlamaEncoder())
    encoder.prefetch(event.query for event in events if event.query)
    views = {}
    for view in STREAMED_VIEWS:
        began = time.perf_counter()
        found = history_rows(view, events, encoder=encoder)
        views[view.name] = (time.perf_counter() - began) / max(1, len(found)) * 1e6
        print(f"{view.name:>22}: {views[view.name]:.1f} µs per row from history ({len(found)} rows)")
    print(json.dumps({"benchmark": "features", "replays": results, "us_per_row": views}))


if __name__ == "__main__":
    main()
