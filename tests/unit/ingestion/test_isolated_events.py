"""A definition of a team's own that fails costs the events that it met, in that view alone; they lie in the quarantine."""

import json
import uuid
import zlib
from datetime import timedelta
from itertools import pairwise

import pytest

from ingestion.kinesis_shards import Record
from ingestion.reconcile import holds_its_sums
from stillpoint.app.load import load_app
from stillpoint.clock import to_micros
from stillpoint.events.recorded import RecordedEvents
from stillpoint.features.streamed.history import AppHistory
from stillpoint.lake.tables import Lake
from tests.support.app_folders import app_folder
from tests.support.batch_world import Parts, World
from tests.support.wellness import FEATURES

VIEWS = '''"""One view whose function fails for some plays, and one beside it."""

import itertools
import math

from stillpoint.app import DType, StreamView, count, hours, own, user

from .events import ContentStart

CALLS = itertools.count()


def odd(events, at_us):
    last = events[-1].play_id if events else ""
    if last == "raises":
        raise ValueError("no such play")
    if last == "text":
        return "seven"
    if last == "flag":
        return True
    if last == "nan":
        return math.nan
    if last == "changes":
        return float(next(CALLS))
    return float(len(events))


class Odd(StreamView):
    """What a function makes of plays."""

    entity, ttl = user, hours(2)
    oddness = own(odd, ContentStart, gives=DType.FLOAT64, over=hours(1))


class Even(StreamView):
    """How many plays there were."""

    entity, ttl = user, hours(2)
    begun = count(ContentStart, over=hours(1))
'''
PLAYS = ["a", "raises", "b", "text", "flag", "c", "nan", "changes", "d"]
REASONS = {
    "raises": "ValueError: no such play",
    "text": "feature oddness gives 'seven'; expected Float64, finite, or None",
    "flag": "feature oddness gives True; expected Float64, finite, or None",
    "nan": "feature oddness gives nan; expected Float64, finite, or None",
    "changes": "it gives other values for the same events; expected a pure function",
}


def plays(at):
    found = []
    for number, play in enumerate(PLAYS):
        # One step in 64 is computed twice, chosen by the event's id: this one's is.
        event_id = uuid.UUID(int=_computed_twice()) if play == "changes" else uuid.UUID(int=number + 1)
        document = {
            "schema_version": 1,
            "event_id": str(event_id),
            "user_id": "u1",
            "type": "content_start",
            "event_timestamp": (at + timedelta(seconds=number)).isoformat(),
            "platform": "ios",
            "play_id": play,
            "content_id": "c1",
            "category": "sleep",
        }
        arrived = to_micros(at) + number * 1_000_000
        found.append(Record("s0", str(1000 + number), "u1", arrived, json.dumps(document).encode()))
    return found


def _computed_twice():
    return next(n for n in range(1_000, 10_000) if zlib.crc32(uuid.UUID(int=n).bytes) % 64 == 0)


@pytest.mark.parametrize("cuts", [[0, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 4, 9]])
def test_events_with_which_a_definition_fails_are_kept_aside_for_that_view_alone(tmp_path, redis_server, unique, cuts):
    app = app_folder(tmp_path, f"odd_{uuid.uuid4().hex[:8]}", views=VIEWS)
    world = World(tmp_path, redis_server, unique, app=app)
    processor = world.processor()
    records = plays(world.now)
    for number, (first, end) in enumerate(pairwise(cuts)):
        processor.process(Parts(records[first:end], 1), number)
    lake = Lake(world.lake.objects, FEATURES)
    assert [verdict for _, verdict in world.stored()] == ["on_time"] * len(PLAYS)
    aside = lake.read("quarantine").to_pylist()
    found = {json.loads(row["payload"])["play_id"]: (row["field"], row["reason"]) for row in aside}
    assert found == {play: ("view odd", reason) for play, reason in REASONS.items()}
    counts = sorted(lake.read("features/even").to_pylist(), key=lambda row: row["event_timestamp"])
    assert [row["begun"] for row in counts][-1] == len(PLAYS)
    values = sorted(lake.read("features/odd").to_pylist(), key=lambda row: row["event_timestamp"])
    assert [row["oddness"] for row in values] == [1.0, 2.0, 3.0, 4.0]
    assert all(holds_its_sums(commit) for commit in lake.commits())
    assert sum(report.isolated for report in world.reports) == len(REASONS)
    loaded = load_app(str(app))
    events = RecordedEvents(loaded.events).on_time(lake.read("events"))
    assert [row[3] for row in AppHistory(loaded).rows("odd", events)] == [1.0, 2.0, 3.0, 4.0]
