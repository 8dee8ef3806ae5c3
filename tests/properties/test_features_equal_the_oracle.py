"""The stream equals the plain definition, whatever the batches, arrival orders, copies and ties."""

import importlib.util
import uuid
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.clock import DAY, HOUR, MINUTE, SECOND
from stillpoint.events.types import Category, EventType
from stillpoint.features.streamed.history import AppHistory
from stillpoint.features.streamed.state import UserState
from stillpoint.features.streamed.stream import AppStream
from tests.support.wellness import APP, STREAMED_VIEWS, arrival

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).parents[1] / "oracle.py")
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

START = 1_767_225_600 * SECOND
STEPS = [
    0,
    1,
    SECOND,
    MINUTE,
    5 * MINUTE,
    5 * MINUTE + 1,
    10 * MINUTE - 1,
    10 * MINUTE,
    10 * MINUTE + 1,
    20 * MINUTE,
    30 * MINUTE,
    30 * MINUTE + 1,
    HOUR,
    24 * HOUR - 1,
    24 * HOUR,
    24 * HOUR + 1,
]
MAX_AGE = DAY


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
STREAM = AppStream(APP, encoder=ENCODER, max_event_age_us=MAX_AGE)
HISTORY = AppHistory(APP, ENCODER)


@st.composite
def histories(draw):
    """Arrivals of one user: event times wander by telling steps, so do arrivals; ids and plays are few, so they clash."""
    count = draw(st.integers(1, 24))
    event_us, arrived_us = START, START
    arrivals = []
    kinds = draw(
        st.sampled_from([tuple(EventType), ("content_start", "content_exit", "search"), ("biometric",), ("search",)])
    )
    for number in range(count):
        if arrivals and draw(st.integers(0, 9)) == 0:
            copied = draw(st.sampled_from(arrivals))
            arrived_us = max(arrived_us, copied.event_us)
            arrivals.append(copied._replace(arrived_us=arrived_us))
            continue
        step = draw(st.sampled_from(STEPS))
        sign = draw(st.sampled_from([1, 1, 1, -1]))
        event_us = max(START, event_us + sign * step)
        arrived_us = max(arrived_us + draw(st.sampled_from([-1, 0, 0, 1, SECOND])), event_us - MINUTE)
        kind = EventType(draw(st.sampled_from(kinds)))
        ids = draw(st.integers(0, 12)) if draw(st.booleans()) else 100 + draw(st.integers(0, 10_000)) * 100 + number
        fields = {}
        if kind is EventType.SEARCH:
            fields["query"] = draw(st.sampled_from(["a", "-a", "b", "c", "?"]))
        elif kind.startswith("content_"):
            fields["play_id"] = draw(st.sampled_from(["p", "q", "r"]))
            fields["category"] = draw(st.sampled_from([Category.SLEEP, Category.FOCUS]))
            if kind is not EventType.CONTENT_START:
                fields["position_seconds"] = draw(st.sampled_from([0.0, 59.999, 60.0, 600.0]))
        elif kind is EventType.BIOMETRIC:
            fields["heart_rate_bpm"] = draw(st.none() | st.floats(25, 250))
            fields["steps"] = draw(st.none() | st.integers(0, 300))
            if fields["heart_rate_bpm"] is None and fields["steps"] is None:
                fields["steps"] = 0
        arrivals.append(arrival(str(uuid.UUID(int=ids)), "u1", kind, event_us, arrived_us, **fields))
    return arrivals


def stream(arrivals, cuts):
    """Advance through the batches that `cuts` make, the state as bytes in between."""
    state, verdicts, events = b"", [], []
    rows = {view.name: [] for view in STREAMED_VIEWS}
    edges = [0, *sorted(cuts), len(arrivals)]
    for first, last in pairwise(edges):
        before = UserState.from_bytes(state)
        outcome = STREAM.advance(before, arrivals[first:last])
        assert before.to_bytes() == UserState.from_bytes(state).to_bytes()
        state = outcome.state.to_bytes()
        verdicts += [str(verdict) for verdict in outcome.verdicts]
        events += outcome.events
        for name, found in outcome.rows.items():
            rows[name] += found
    return state, verdicts, events, rows


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals=histories(), data=st.data())
def test_stream_in_any_batches_and_history_equal_the_oracle_bit_for_bit(arrivals, data):
    cuts = data.draw(st.lists(st.integers(0, len(arrivals)), max_size=8))
    state, verdicts, events, rows = stream(arrivals, cuts)
    expected_verdicts, expected_events = oracle.verdicts(arrivals, max_event_age_us=MAX_AGE)
    assert verdicts == expected_verdicts
    assert events == expected_events
    on_time = [event for event, verdict in zip(events, verdicts, strict=True) if verdict == "on_time"]
    for view in STREAMED_VIEWS:
        expected = [oracle.bits(row) for row in oracle.rows(view.name, on_time, ENCODER.encode)]
        streamed = oracle.newest(rows[view.name])
        assert [oracle.bits(streamed[key]) for key in sorted(streamed)] == expected
        shuffled = data.draw(st.permutations(on_time))
        assert [oracle.bits(row) for row in HISTORY.rows(view.name, shuffled)] == expected
    assert state == stream(arrivals, [])[0]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals=histories(), later=histories(), gap=st.sampled_from([0, 1, HOUR]))
def test_an_expired_state_may_be_dropped(arrivals, later, gap):
    state = UserState.from_bytes(stream(arrivals, [])[0])
    shift = STREAM.expires_us(state) + gap - later[0].arrived_us
    later = [event._replace(event_us=event.event_us + shift, arrived_us=event.arrived_us + shift) for event in later]
    later = [event for event in later if event.arrived_us >= STREAM.expires_us(state)]
    kept = STREAM.advance(state, later)
    dropped = STREAM.advance(UserState(), later)
    assert kept.verdicts == dropped.verdicts
    assert {name: list(map(oracle.bits, rows)) for name, rows in kept.rows.items()} == {
        name: list(map(oracle.bits, rows)) for name, rows in dropped.rows.items()
    }


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals=histories(), erased=st.sampled_from([START - 1, START, START + 10 * MINUTE, START + DAY]))
def test_erased_events_leave_no_trace(arrivals, erased):
    outcome = STREAM.advance(UserState(), arrivals, erased_until_us=erased)
    assert [str(v) for v in outcome.verdicts] == oracle.verdicts(
        arrivals, max_event_age_us=MAX_AGE, erased_until_us=erased
    )[0]
    without = [event for event in arrivals if min(event.event_us, event.arrived_us) > erased]
    assert outcome.state.to_bytes() == STREAM.advance(UserState(), without).state.to_bytes()
