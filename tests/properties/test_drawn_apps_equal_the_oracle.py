"""The stream of any app equals the plain definition, whatever its views, the batches, arrival orders, copies and ties.

And whenever a view joins the running stream, leaves it and joins again.
"""

import random
import uuid
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.joining.past import advance_past
from stillpoint.app import (
    Annotated,
    Arrival,
    DType,
    Entity,
    Event,
    Family,
    Meta,
    StreamView,
    count,
    count_distinct,
    embedding,
    exact,
    exists,
    first,
    last,
    last_n,
    maximum,
    mean,
    minimum,
    most_frequent,
    newer_minus_older,
    one_of,
    own,
    present,
    session,
    share,
    sliding,
    slope,
    standard_deviation,
    sum_,
    time_since_first,
    time_since_last,
    user,
)
from stillpoint.clock import DAY, HOUR, MINUTE, SECOND
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.engine import Engine, runner
from stillpoint.features.streamed.history import history_rows, rows_of_key
from stillpoint.features.streamed.state import UserState
from tests.support import app_oracle as oracle

START = 1_767_225_600 * SECOND
MAX_AGE = DAY
UNITS = [1, 7, SECOND, MINUTE, 10 * MINUTE, HOUR, DAY]
"""One example's view and events share a unit, so that events often fall on the edges of windows and steps."""


class Item(Event):
    item_id: str
    colour: str | None = None


class Viewed(Item):
    seconds: Annotated[float, Meta(ge=0)] | None = None


class Bought(Item):
    price: float
    pieces: Annotated[int, Meta(ge=-100, le=100)]


class Sought(Event):
    query: str


class Measured(Event, family=Family(name="watch")):
    level: float
    resting: bool | None = None


class FewWords:
    """An encoder of five texts, one of which has no known word and two of which cancel out."""

    sha256 = "0" * 64

    def __init__(self):
        a, b = np.random.default_rng(3).normal(size=(2, 256))
        self._rows = {"a": a, "-a": -a, "b": b, "c": a + 2 * b, "?": np.full(256, np.nan)}

    def encode(self, texts):
        rows = np.array([self._rows[text] for text in texts]).reshape(-1, 256)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


ENCODER = FewWords()


def counted(events, at_us):
    """Return how many of the events happened in an even minute, and how long ago the first was."""
    return sum(len(event.event_id) for event in events) + at_us % 7


NUMBERS = [Viewed.seconds, Bought.price, Bought.pieces, Measured.level]
TEXTS = [Viewed.item_id, Item.item_id, Bought.colour, Item.colour, Sought.query]
WHOLE = [Viewed, Bought, Item, Sought, Measured]
CONDITIONS = {
    Viewed: [Viewed.colour == "red", Viewed.seconds > 1.5, ~present(Viewed.seconds), one_of(Viewed.item_id, "p", "q")],
    Bought: [(Bought.price < 3.0) | (Bought.pieces != 2), (Bought.colour == "blue") & (Bought.pieces >= 0)],
    Item: [Item.colour != "red", present(Item.colour)],
    Sought: [Sought.query == "a"],
    Measured: [Measured.level <= 0.5, Measured.resting == True],  # noqa: E712
}


def micros(us):
    from datetime import timedelta

    return timedelta(microseconds=us)


@st.composite
def windows(draw, unit, shared):
    length = unit * draw(st.integers(1, 4))
    if shared:
        length = max(1, length // shared // 2) * shared * 2
        step = shared * draw(st.sampled_from([one for one in (1, 2) if length % (shared * one) == 0]))
        return draw(st.sampled_from([exact(micros(length)), sliding(micros(length), step=micros(step))]))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return session(micros(draw(st.sampled_from([unit, length]))))
    if kind == 1:
        return exact(micros(length))
    return sliding(micros(length), step=micros(unit))


@st.composite
def features(draw, unit, shared):
    over = draw(windows(unit, shared))
    kind = draw(st.integers(0, 12))
    told = {}
    if kind <= 3:
        events = draw(st.sampled_from(WHOLE))
        if draw(st.booleans()):
            told["where"] = draw(st.sampled_from(CONDITIONS[events]))
        return draw(st.sampled_from([count, exists, time_since_last, time_since_first]))(events, over=over, **told)
    if kind <= 7:
        field = draw(st.sampled_from(NUMBERS))
        if draw(st.booleans()):
            told["where"] = draw(st.sampled_from(CONDITIONS[field.event]))
        if draw(st.booleans()):
            told["default"] = 0 if field.name == "pieces" else 0.0
        made = [sum_, mean, standard_deviation, minimum, maximum, slope, first, last]
        made += [] if hasattr(over, "gap_us") else [newer_minus_older]
        return draw(st.sampled_from(made))(field, over=over, **told)
    if kind <= 9:
        field = draw(st.sampled_from(TEXTS))
        made = [count_distinct, first, last, most_frequent, lambda f, **kw: last_n(f, 3, **kw)]
        return draw(st.sampled_from(made))(field, over=over, **told)
    if kind == 10:
        return share(Bought, of=Viewed, on="item_id", over=over)
    if kind == 11:
        return embedding(
            Sought.query, newest=draw(st.integers(1, 3)), decay=draw(st.sampled_from([0.5, 0.3])), over=over
        )
    if hasattr(over, "gap_us") or shared:
        return count_distinct(Item.item_id, over=over)
    return own(counted, draw(st.sampled_from(WHOLE)), gives=DType.INT64, over=exact(micros(over.length_us)))


ENTITIES = [
    user,
    Entity("user_item", "user_id", "item_id"),
    Entity("item"),
    Entity("colour_platform", "colour", "platform"),
]


@st.composite
def views(draw, unit):
    entity = draw(st.sampled_from([user, user, *ENTITIES]))
    shared = None if "user_id" in entity.keys else draw(st.sampled_from([1, unit]))
    body = {f"f{n}": draw(features(unit, shared)) for n in range(draw(st.integers(1, 5)))}
    body |= {"entity": entity, "name": "drawn", "row_step": micros(shared or MINUTE), "__doc__": "A drawn view."}
    if entity is not user:
        body = {name: one for name, one in body.items() if not hasattr(one, "aggregation") or names_item(one)}
    if not any(hasattr(one, "aggregation") for one in body.values()):
        body["f"] = count(Item, over=draw(windows(unit, shared)))
    return type("Drawn", (StreamView,), body)


def names_item(declared):
    return all(issubclass(leaf, Item) for event in (*declared.events, *declared.of) for leaf in event.leaves)


@st.composite
def histories(draw, unit, users):
    """Arrivals of some users: event times wander by telling steps, so do arrivals; ids and items are few, so they clash."""
    arrivals = []
    clocks = {f"u{n}": (START, START) for n in range(users)}
    for number in range(draw(st.integers(1, 30))):
        who = draw(st.sampled_from(sorted(clocks)))
        event_us, arrived_us = clocks[who]
        mine = [one for one in arrivals if one.event.user_id == who]
        if mine and draw(st.integers(0, 9)) == 0:
            copied = draw(st.sampled_from(mine))
            arrivals.append(copied._replace(arrived_us=max(arrived_us, copied.event_us)))
            continue
        step, sign = draw(st.sampled_from(STEPS)), draw(st.sampled_from([1, 1, 1, -1]))
        event_us = max(START, event_us + sign * (unit * step + draw(st.sampled_from(JITTER))))
        arrived_us = max(arrived_us + draw(st.sampled_from([-1, 0, 0, 1, SECOND])), event_us - MINUTE)
        clocks[who] = event_us, arrived_us
        ids = draw(st.integers(0, 9)) if draw(st.booleans()) else 100 + draw(st.integers(0, 1_000)) * 100 + number
        arrivals.append(drawn_event(draw, who, event_us, arrived_us, uuid.UUID(int=ids)))
    return arrivals


STEPS = [0, 0, 1, 1, 1, 2, 3, 5]
JITTER = [0, 0, 0, 0, 1, -1, SECOND, 10 * MINUTE + 1]


@st.composite
def worlds(draw, users):
    unit = draw(st.sampled_from(UNITS))
    return draw(views(unit)), draw(histories(unit, users))


FLOATS = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 1.5, 1e16, -1e16, 1e-9, 3.0]) | st.floats(-1e6, 1e6)


def drawn_event(draw, who, event_us, arrived_us, key):
    base = {"schema_version": 1, "event_id": str(key), "user_id": who, "event_timestamp": "2026-01-01T00:00:00Z", "platform": draw(st.sampled_from(["ios", "web"]))}  # fmt: skip
    kind = draw(st.sampled_from([Viewed, Bought, Sought, Measured]))
    item = {"item_id": draw(st.sampled_from("pqr")), "colour": draw(st.sampled_from([None, "red", "blue"]))}
    fields = {
        Viewed: lambda: item | {"seconds": draw(st.none() | FLOATS.map(abs))},
        Bought: lambda: item | {"price": draw(FLOATS), "pieces": draw(st.integers(-3, 3))},
        Sought: lambda: {"query": draw(st.sampled_from(["a", "-a", "b", "c", "?"]))},
        Measured: lambda: {"level": draw(FLOATS), "resting": draw(st.none() | st.booleans())},
    }[kind]()
    return Arrival(kind(**base, **fields), event_us, arrived_us, key.bytes)


def streamed(engine, arrivals, cuts):
    """Advance through the batches that `cuts` make, every state as bytes in between. Return states, on-time events, rows."""
    states, rows, on_time = {}, [], []
    keyed = {}
    edges = [0, *sorted(cuts), len(arrivals)]
    for start, end in pairwise(edges):
        users = {}
        for one in arrivals[start:end]:
            users.setdefault(one.event.user_id, []).append(one)
        fresh = []
        for who, own_arrivals in users.items():
            before = UserState.from_bytes(states.get(who, b""))
            outcome = engine.advance(before, own_arrivals)
            assert before.to_bytes() == UserState.from_bytes(states.get(who, b"")).to_bytes()
            states[who] = outcome.state.to_bytes()
            fresh += [a for a, v in zip(outcome.arrivals, outcome.verdicts, strict=True) if v is Verdict.ON_TIME]
            rows += outcome.rows.get("drawn", [])
        on_time += fresh
        for name, groups in engine.regrouped(fresh).items():
            for key, own_arrivals in groups.items():
                outcome = engine.advance_key(name, key, keyed.get(key, b""), own_arrivals)
                keyed[key] = outcome.state
                rows += outcome.rows
                if outcome.behind is not None:
                    view = engine.of_others[name]
                    events = [one for one in on_time if type(one.event) in view.events and view.key(one.event) == key]
                    whole, (first, last) = rows_of_key(view, key, events), outcome.behind
                    rows += [row for row in whole if first <= row[len(key)] <= last]
    return states, on_time, rows


EXAMPLES = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(world=worlds(users=1), data=st.data())
def test_a_users_view_in_any_batches_and_history_equal_the_oracle_bit_for_bit(world, data):
    check(*world, data)


@EXAMPLES
@given(world=worlds(users=3), data=st.data())
def test_a_view_of_many_users_in_any_batches_and_history_equals_the_oracle_bit_for_bit(world, data):
    check(*world, data)


def check(view, arrivals, data):
    skew = data.draw(st.sampled_from([0, HOUR, 1000 * DAY]))
    engine = Engine([view], max_event_age_us=MAX_AGE, encoder=ENCODER, shard_skew_us=skew)
    cuts = data.draw(st.lists(st.integers(0, len(arrivals)), max_size=8))
    _, on_time, rows = streamed(engine, arrivals, cuts)
    keys = len(view.entity.keys)
    expected = [oracle.bits(row) for row in oracle.rows(view, on_time, ENCODER.encode)]
    found = oracle.newest(rows, keys)
    assert [oracle.bits(found[key]) for key in sorted(found)] == expected
    shuffled = list(on_time)
    random.Random(data.draw(st.integers(0, 9))).shuffle(shuffled)
    history = history_rows(runner(view, ENCODER), shuffled, stretch=data.draw(st.sampled_from([1, 3, 256])))
    assert [oracle.bits(row) for row in history] == expected


class Memory:
    """What a join has computed, as the stream's Redis holds it."""

    def __init__(self):
        self.of_users, self.of_keys = {}, {}

    def sections(self, view, users):
        return {user: self.of_users[user] for user in users if user in self.of_users}

    def save_sections(self, view, sections):
        self.of_users |= sections

    def keys(self, view, keys):
        return {key: self.of_keys[key] for key in keys if key in self.of_keys}

    def save_keys(self, view, states):
        self.of_keys |= {key: one.data for key, one in states.items()}


class Joined:
    """A stream that a view joins and leaves between batches; while it is away, and while it joins, batches go on."""

    def __init__(self, view, engine, engine_without, groups):
        self.view, self.engine, self.without, self.groups = view, engine, engine_without, groups
        self.states, self.keyed, self.rows, self.on_time, self.since = {}, {}, [], [], []
        self.memory, self.active = None, False

    def older(self, name, key, span):
        view = self.engine.of_others[name]
        events = [one for one in self.on_time if type(one.event) in view.events and view.key(one.event) == key]
        return [row for row in rows_of_key(view, key, events) if span[0] <= row[len(key)] <= span[1]]

    def take_in(self, events, before_us=None):
        found = advance_past(self.engine, self.memory, events, older=self.older, before_us=before_us)
        self.rows += [row for rows in found.values() for row in rows]

    def begin(self):
        self.memory, self.since = Memory(), []
        for day in sorted({one.event_us // DAY for one in self.on_time}):
            for group in range(self.groups):
                mine = [one for one in self.on_time if int(one.event.user_id[1:]) % self.groups == group]
                self.take_in([one for one in mine if one.event_us // DAY == day], day * DAY)

    def finish(self):
        self.take_in(self.since)
        for who, section in self.memory.of_users.items():
            state = UserState.from_bytes(self.states.get(who, b""))
            name = runner(self.view).section
            self.states[who] = UserState(state.memory, state.sections | {name: section}).to_bytes()
        self.keyed, self.active = dict(self.memory.of_keys), True

    def leave(self):
        self.keyed, self.active, self.memory = {}, False, None

    def batch(self, arrivals):
        engine, fresh = self.engine if self.active else self.without, []
        users = {}
        for one in arrivals:
            users.setdefault(one.event.user_id, []).append(one)
        for who, own_arrivals in users.items():
            outcome = engine.advance(UserState.from_bytes(self.states.get(who, b"")), own_arrivals)
            self.states[who] = outcome.state.to_bytes()
            fresh += [a for a, v in zip(outcome.arrivals, outcome.verdicts, strict=True) if v is Verdict.ON_TIME]
            self.rows += outcome.rows.get("drawn", [])
        self.on_time += fresh
        self.since += fresh
        for name, groups in engine.regrouped(fresh).items():
            for key, own_arrivals in groups.items():
                outcome = engine.advance_key(name, key, self.keyed.get(key, b""), own_arrivals)
                self.keyed[key] = outcome.state
                self.rows += outcome.rows
                if outcome.behind is not None:
                    self.rows += self.older(name, key, outcome.behind)


@EXAMPLES
@given(world=worlds(users=3), data=st.data())
def test_a_view_that_joins_leaves_and_joins_again_equals_the_oracle_bit_for_bit(world, data):
    view, arrivals = world
    skew = data.draw(st.sampled_from([0, HOUR, 1000 * DAY]))
    engine, without = (
        Engine(views, max_event_age_us=MAX_AGE, encoder=ENCODER, shard_skew_us=skew) for views in ([view], [])
    )
    stream = Joined(view, engine, without, data.draw(st.sampled_from([1, 2])))
    steps = sorted(data.draw(st.lists(st.integers(0, len(arrivals)), min_size=5, max_size=5)))
    cuts = set(data.draw(st.lists(st.integers(0, len(arrivals)), max_size=8)))
    turns = [stream.begin, stream.finish, stream.leave, stream.begin, stream.finish]
    edges = sorted([(cut, -1) for cut in cuts] + [(step, turn) for turn, step in enumerate(steps)])
    done = 0
    for edge, turn in edges:
        stream.batch(arrivals[done:edge])
        done = edge
        if turn >= 0:
            turns[turn]()
    stream.batch(arrivals[done:])
    found = oracle.newest(stream.rows, len(view.entity.keys))
    expected = [oracle.bits(row) for row in oracle.rows(view, stream.on_time, ENCODER.encode)]
    assert [oracle.bits(found[key]) for key in sorted(found)] == expected
