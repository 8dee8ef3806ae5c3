"""The app's hand-made views give in the engine what they gave before it, and a state of version 1 is carried on."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.app.events import Arrival
from stillpoint.app.load import load_app
from stillpoint.clock import DAY
from stillpoint.features import state as before
from stillpoint.features.streamed.engine import Engine, section_name
from stillpoint.features.streamed.history import history_rows
from stillpoint.features.streamed.state import UserState, VersionOne
from tests import oracle
from tests.golden import test_user_state_bytes as golden
from tests.properties.test_features_equal_the_oracle import ENCODER, MAX_AGE, histories

APP = load_app(str(Path(__file__).parents[2] / "feature_repo"))
TYPES = {event.type_name: event for event in APP.events}
NAMES = ("session_bounce_rates", "search_embeddings", "biometrics")
VIEWS = {view.name: view for view in APP.views}
TEN_MINUTES = 600_000_000
ONE = VersionOne(
    families=(("taps", TEN_MINUTES), ("biometrics", TEN_MINUTES), ("impressions", None)),
    sections=tuple((section_name(VIEWS[name]), place, DAY + 1) for name, place in zip(NAMES, (0, 0, 1), strict=True)),
)


PLAUSIBLE = {
    "screen": "home",
    "play_id": "p",
    "content_id": "c1",
    "category": "focus",
    "position_seconds": 0.0,
    "recommendation_id": "r",
    "kind": "today",
    "items": ("c1",),
    "surface": "home",
}


def arrival(event):
    kind = TYPES[event.type]
    fields = {name: getattr(event, name, None) for name in kind.__struct_fields__}
    fields |= {"schema_version": 1, "event_timestamp": "2026-01-01T00:00:00Z"}
    required = {name: value for name, value in PLAUSIBLE.items() if name in fields}
    made = kind(**required | {name: value for name, value in fields.items() if value is not None})
    return Arrival(made, event.event_us, event.arrived_us, bytes.fromhex(event.event_id.replace("-", "")))


def bits(rows):
    return {name: list(map(oracle.bits, found)) for name, found in rows.items() if found}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals=histories(), data=st.data())
def test_rows_and_verdicts_are_those_of_before_in_any_batches(arrivals, data):
    engine = Engine(APP.views, max_event_age_us=MAX_AGE, encoder=ENCODER)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrivals)), max_size=6)))
    old, new = b"", b""
    on_time = {name: [] for name in NAMES}
    for start, end in pairwise([0, *cuts, len(arrivals)]):
        part = arrivals[start:end]
        known = before.advance(before.UserState.from_bytes(old), part, encoder=ENCODER, max_event_age_us=MAX_AGE)
        found = engine.advance(UserState.from_bytes(new), list(map(arrival, part)))
        assert list(found.verdicts) == list(known.verdicts)
        assert [one.arrived_us for one in found.arrivals] == [one.arrived_us for one in known.events]
        assert found.differing == known.differing
        assert bits(found.rows) == bits(known.rows)
        old, new = known.state.to_bytes(), found.state.to_bytes()
        for name in NAMES:
            on_time[name] += [a for a, v in zip(found.arrivals, found.verdicts, strict=True) if v == "on_time"]
    for runner in engine.of_users:
        expected = before_history(runner.name, on_time[runner.name], arrivals)
        assert [oracle.bits(row) for row in history_rows(runner, on_time[runner.name])] == expected


def before_history(name, on_time, arrivals):
    from stillpoint.features.history import history_rows as old_rows

    by_time = {(one.event_id, one.event_us): one for one in arrivals}
    known = [by_time[one.event.event_id, one.event_us]._replace(arrived_us=one.arrived_us) for one in on_time]
    return [oracle.bits(row) for row in old_rows(name, known, encoder=ENCODER)]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals=histories(), cut=st.integers(0, 24))
def test_a_state_of_version_one_is_carried_on(arrivals, cut):
    first, rest = arrivals[:cut], arrivals[cut:]
    old = before.advance(before.UserState(), first, encoder=ENCODER, max_event_age_us=MAX_AGE).state
    known = before.advance(old, rest, encoder=ENCODER, max_event_age_us=MAX_AGE)
    engine = Engine(APP.views, max_event_age_us=MAX_AGE, encoder=ENCODER)
    found = engine.advance(UserState.from_bytes(old.to_bytes(), ONE), list(map(arrival, rest)))
    assert list(found.verdicts) == list(known.verdicts)
    assert bits(found.rows) == bits(known.rows)


def test_the_golden_state_of_version_one_is_read():
    engine = Engine(APP.views, max_event_age_us=DAY, encoder=golden.Directions())
    state = UserState.from_bytes((golden.GOLDEN.parent / "user_state_v1.bin").read_bytes(), ONE)
    assert set(state.sections) == {section_name(view) for view in APP.views}
    after = [one for one in golden.AFTER if one.type != "impression"]
    known = before.advance(
        before.UserState.from_bytes((golden.GOLDEN.parent / "user_state_v1.bin").read_bytes()),
        after,
        encoder=golden.Directions(),
        max_event_age_us=DAY,
    )
    found = engine.advance(state, list(map(arrival, after)))
    assert bits(found.rows) == bits(known.rows)
    assert found.state.to_bytes() == UserState.from_bytes(found.state.to_bytes()).to_bytes()


def test_a_section_that_no_view_knows_is_kept(tmp_path):
    engine = Engine([VIEWS["biometrics"]], max_event_age_us=DAY)
    state = UserState.from_bytes((golden.GOLDEN.parent / "user_state_v1.bin").read_bytes(), ONE)
    after = engine.advance(state, [arrival(one) for one in golden.AFTER if one.type == "biometric"]).state
    for view in APP.views:
        if view.name != "biometrics":
            assert after.sections[section_name(view)] == state.sections[section_name(view)]


@pytest.mark.parametrize("data", [b"\x93\x03\x01\x02", b"\xff", b"abc"])
def test_bytes_that_are_no_state_are_refused(data):
    from stillpoint.errors import CorruptData

    with pytest.raises(CorruptData, match="state"):
        UserState.from_bytes(data, ONE)
