"""The oracle of the app's features: verdicts and rows by brute force, sharing no code with the product's definitions.

Events come in arrival order; each question is answered by looking at all of them again. Slow, and meant to be.
"""

import json
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

MINUTE = 60_000_000
NOT_TAPS = ("biometric", "impression")


def family(event):
    return event.type if event.type in NOT_TAPS else "tap"


def verdicts(arrivals, *, max_event_age_us, erased_until_us=None):
    """Return the verdict on each of one user's arrivals, and the events with strictly increasing arrivals."""
    found, events = [], []
    for event in arrivals:
        if erased_until_us is not None and min(event.event_us, event.arrived_us) <= erased_until_us:
            found.append("erased")
            events.append(event)
            continue
        before = [e.arrived_us for e, v in zip(events, found, strict=True) if v != "erased"]
        if before and event.arrived_us <= max(before):
            event = event._replace(arrived_us=max(before) + 1)
        on_time = [e for e, v in zip(events, found, strict=True) if v == "on_time"]

        def is_late(other, on_time=on_time, now=event.arrived_us):
            kin = [e.event_us for e in on_time if family(e) == family(other)]
            too_old = now - other.event_us > max_event_age_us
            behind = family(other) != "impression" and bool(kin) and other.event_us < max(kin) - 10 * MINUTE
            return too_old or behind

        if is_late(event):
            found.append("late")
        elif any(e.event_id == event.event_id and not is_late(e) for e in on_time):
            found.append("duplicate")
        else:
            found.append("on_time")
        events.append(event)
    return found, events


def rows(view: str, on_time: Sequence, encode: Callable) -> list[tuple]:
    """Return the plain definition's rows of one user's on-time events, ordered by time."""
    kinds = {
        "session_bounce_rates": lambda e: e.type not in NOT_TAPS,
        "search_embeddings": lambda e: e.type == "search",
        "biometrics": lambda e: e.type == "biometric",
    }[view]
    definition = {"session_bounce_rates": session, "search_embeddings": search, "biometrics": biometric}[view]
    mine = [e for e in on_time if kinds(e)]
    found = []
    for t in sorted({e.event_us for e in mine}):
        window, values = definition(t, [e for e in mine if e.event_us <= t], encode)
        found.append((mine[0].user_id, t, max(e.arrived_us for e in window), *values))
    return found


def session(t, past, _):
    window = []
    edge = t
    for event in sorted(past, key=lambda e: e.event_us, reverse=True):
        if edge - event.event_us > 30 * MINUTE:
            break
        window.append(event)
        edge = event.event_us
    starts = {}
    for event in sorted(window, key=lambda e: (e.event_us, e.event_id)):
        if event.type == "content_start":
            starts.setdefault(event.event.play_id, event)
    abandoned = {
        play
        for play, start in starts.items()
        if any(
            e.type == "content_exit"
            and e.event.play_id == play
            and e.event_us >= start.event_us
            and e.event.position_seconds < 60
            for e in window
        )
    }
    sleep = {play for play, start in starts.items() if start.event.category == "sleep"}
    rate = len(abandoned) / len(starts) if starts else None
    sleep_rate = len(abandoned & sleep) / len(sleep) if sleep else None
    return window, (len(starts), len(sleep), rate, sleep_rate, (t - edge) / 1_000_000)


def search(t, past, encode):
    window = [e for e in past if e.event_us > t - 24 * 60 * MINUTE]
    newest = sorted(window, key=lambda e: (e.event_us, e.event_id), reverse=True)[:5]
    total = [0.0] * 256
    for place, event in enumerate(newest):
        vector = encode([event.event.query])[0]
        if not np.isnan(vector[0]):
            total = [s + float(x) * 0.5**place for s, x in zip(total, vector, strict=True)]
    norm = math.sqrt(sum((Fraction(x * x) for x in total), start=Fraction(0)))
    return window, (None if norm == 0 else np.array([x / norm for x in total], dtype=np.float32), len(window))


def biometric(t, past, _):
    window = [e for e in past if e.event_us > t - 10 * MINUTE]
    beats = [
        (Fraction(e.event_us - t, MINUTE), Fraction(e.event.heart_rate_bpm))
        for e in window
        if e.event.heart_rate_bpm is not None
    ]
    mean = slope = total = trend = rising = None
    if beats:
        middle = sum(x for x, _ in beats) / len(beats)
        average = sum(y for _, y in beats) / len(beats)
        mean = float(average)
        spread = sum((x - middle) ** 2 for x, _ in beats)
        if len({x for x, _ in beats}) > 1:
            slope = float(sum((x - middle) * (y - average) for x, y in beats) / spread)
    stepped = [e for e in window if e.event.steps is not None]
    if stepped:
        total = sum(e.event.steps for e in stepped)
        newer = sum(e.event.steps for e in stepped if e.event_us > t - 5 * MINUTE)
        trend = newer - sum(e.event.steps for e in stepped if e.event_us <= t - 5 * MINUTE)
    if slope is not None and trend is not None:
        rising = slope >= 1 and trend >= 20
    return window, (mean, slope, total, trend, rising)


def newest(rows: Sequence[tuple]) -> dict[tuple, tuple]:
    """Return by (user, time) the row with the greatest created timestamp."""
    found: dict[tuple, tuple] = {}
    for row in rows:
        if row[:2] not in found or row[2] >= found[row[:2]][2]:
            found[row[:2]] = row
    return found


def bits(row: tuple) -> str:
    """Return a row as text that is equal only for equal bits and equal types."""
    return json.dumps(
        [v.tobytes().hex() if isinstance(v, np.ndarray) else v.hex() if isinstance(v, float) else v for v in row]
    )
