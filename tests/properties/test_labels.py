"""A row gets its label as a plain reading of the definition says, and nothing after the cutoff reaches it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.wellness import EVENT_COLUMNS
from training.labels import label_rows

T0 = datetime(2026, 10, 5, tzinfo=UTC)
CUTOFF = T0 + timedelta(minutes=150)
BOUNCE_SECONDS = 60.0


@dataclass(frozen=True)
class Event:
    """An event of the lake, its times in minutes."""

    id: str
    type: str
    user: str
    at: int
    arrived: int
    verdict: str = "on_time"
    play: str | None = None
    content: str | None = None
    position: float | None = None
    items: tuple[str, ...] | None = None


COMMON = {
    "id": st.uuids().map(lambda one: one.hex[:6]),
    "user": st.sampled_from(["ann", "ann", "bob"]),
    "at": st.integers(5, 17).map(lambda one: 10 * one),
    "arrived": st.sampled_from([0, 0, 0, 15, 40]),
    "verdict": st.sampled_from(["on_time", "on_time", "late", "duplicate"]),
}
CONTENT = st.sampled_from(["a", "b"])
PLAY = st.sampled_from(["p", "q", "r"])


def of_type(type, **others):
    made = st.builds(Event, type=st.just(type), **COMMON, **others)
    return made.map(lambda one: Event(**{**vars(one), "arrived": one.at + one.arrived}))


EVENTS = st.lists(
    st.one_of(
        of_type("impression", items=st.lists(CONTENT, min_size=1, max_size=2, unique=True).map(tuple)),
        of_type("content_start", play=PLAY, content=CONTENT),
        of_type("content_exit", play=PLAY, content=CONTENT, position=st.sampled_from([0.0, 59.0, 60.0, 300.0])),
        of_type("content_complete", play=PLAY, content=CONTENT, position=st.just(300.0)),
    ),
    max_size=16,
    unique_by=lambda one: one.id,
)


def table(events):
    rows = [
        {
            "event_id": one.id,
            "user_id": one.user,
            "type": one.type,
            "event_timestamp": T0 + timedelta(minutes=one.at),
            "arrived_at": T0 + timedelta(minutes=one.arrived),
            "platform": "ios",
            "play_id": one.play,
            "content_id": one.content,
            "position_seconds": one.position,
            "recommendation_id": f"list-{one.id}" if one.items else None,
            "kind": "today" if one.items else None,
            "items": list(one.items) if one.items else None,
            "verdict": one.verdict,
            "shard": "s",
            "sequence": f"{number:06d}",
        }
        for number, one in enumerate(events)
    ]
    return pa.Table.from_pylist(rows, schema=EVENT_COLUMNS)


def plain_labels(events):
    """Return (list, content) → label, asking each shown item for a start of its own."""
    limit = (CUTOFF - T0) // timedelta(minutes=1)
    known = [one for one in events if one.verdict != "duplicate" and max(one.at, one.arrived) <= limit]
    shown = [one for one in known if one.type == "impression"]

    def last_shown_before(start):
        earlier = [o for o in shown if o.user == start.user and start.content in o.items and o.at < start.at]
        return max(earlier, key=lambda one: (one.at, one.id), default=None)

    def bounced(start):
        return any(
            left.type == "content_exit"
            and (left.user, left.play) == (start.user, start.play)
            and start.at <= left.at <= start.at + 30
            and left.position < BOUNCE_SECONDS
            for left in known
        )

    found = {}
    for one in shown:
        if one.at <= limit - 60:
            for content in one.items:
                starts = [
                    start
                    for start in known
                    if start.type == "content_start" and start.content == content and last_shown_before(start) is one
                ]
                good = any(start.at - one.at <= 30 and not bounced(start) for start in starts)
                found[f"list-{one.id}", content] = int(good)
    return found


def labels(events):
    rows = label_rows(table(events), cutoff=CUTOFF)
    return {(one["recommendation_id"], one["content_id"]): one["label"] for one in rows.to_dicts()}


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_labels_are_those_of_a_plain_reading_of_the_definition(events):
    assert labels(events) == plain_labels(events)


LATER = st.tuples(st.booleans(), st.integers(1, 500))


@settings(max_examples=60, deadline=None)
@given(EVENTS, EVENTS, st.lists(LATER, min_size=16, max_size=16))
def test_events_that_happened_or_arrived_after_the_cutoff_change_no_row(events, planted, later):
    limit = (CUTOFF - T0) // timedelta(minutes=1)
    known = [one for one in events if max(one.at, one.arrived) <= limit]
    after = [
        Event(**{**vars(one), "id": f"x{one.id}", "arrived": limit + by, "at": limit + by if happened else one.at})
        for one, (happened, by) in zip(planted, later, strict=False)
    ]
    before = label_rows(table(known), cutoff=CUTOFF)
    assert label_rows(table(known + after), cutoff=CUTOFF).equals(before)
    assert label_rows(table(after + known), cutoff=CUTOFF).equals(before)
