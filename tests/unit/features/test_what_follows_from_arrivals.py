"""Which arrivals turn exertion true, and which copies differ from what they copy."""

import uuid

import pytest

from stillpoint.clock import DAY, SECOND
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.judging import Memory
from stillpoint.features.streamed.state import Section, UserState
from stillpoint.features.streamed.stream import AppStream
from stillpoint.features.triggers import EXERTION_RISING
from tests.support.wellness import APP, arrival, changed

BEGIN = 1_772_000_000 * SECOND
MINUTE = 60 * SECOND


def sample(number, minute, rate, steps, arrived=None):
    moment = BEGIN + minute * MINUTE
    arrived_us = BEGIN + (minute if arrived is None else arrived) * MINUTE + number
    ids = str(uuid.UUID(int=number))
    return arrival(ids, "u1", "biometric", moment, arrived_us, heart_rate_bpm=rate, steps=steps)


STREAM = AppStream(APP, encoder=None, max_event_age_us=DAY)


def step(state, arrivals):
    return STREAM.advance(state, arrivals)


def rising(outcome):
    return outcome.turned.get(EXERTION_RISING, ())


CALM = [sample(1, 0, 70.0, 0), sample(2, 3, 70.0, 0)]
WALK = [sample(3, 6, 80.0, 30), sample(4, 7, 90.0, 30)]


@pytest.mark.parametrize("cut", range(5))
def test_the_arrival_that_turns_exertion_true_is_told_once_wherever_batches_end(cut):
    arrivals = CALM + WALK
    first = step(UserState(), arrivals[:cut])
    second = step(first.state, arrivals[cut:])
    assert [*rising(first), *(cut + index for index in rising(second))] == [2]


def test_exertion_that_stays_true_and_samples_that_say_nothing_are_not_rising():
    state = step(UserState(), CALM + WALK).state
    assert rising(step(state, [sample(5, 8, 100.0, 30)])) == ()
    assert rising(step(UserState(), CALM)) == ()
    assert rising(step(UserState(), [sample(1, 0, None, 10), sample(2, 1, 90.0, None)])) == ()


def test_exertion_rises_again_after_it_has_fallen():
    state = step(UserState(), CALM + WALK).state
    fallen = step(state, [sample(6, 16, 60.0, 0), sample(7, 20, 60.0, 0)])
    assert rising(fallen) == ()
    assert rising(step(fallen.state, [sample(8, 22, 90.0, 40)])) == (0,)


def test_an_index_counts_all_arrivals_whatever_their_verdict():
    copies = [CALM[0], changed(CALM[0], heart_rate_bpm=71.0)]
    outcome = step(UserState(), [*CALM, *copies, *WALK])
    assert rising(outcome) == (4,)
    assert outcome.differing == (3,)
    assert [outcome.verdicts[i] for i in (2, 3)] == [Verdict.DUPLICATE, Verdict.DUPLICATE]


def test_a_copy_differs_by_what_happened_and_not_by_when_it_arrived():
    original = CALM[1]
    later = original._replace(arrived_us=original.arrived_us + SECOND)
    other_time = original._replace(event_us=original.event_us + 1)
    state = step(UserState(), CALM).state
    outcome = step(state, [later, other_time, changed(original, steps=1), changed(original, platform="web")])
    assert outcome.verdicts == [Verdict.DUPLICATE] * 4
    assert 0 not in outcome.differing
    assert {1, 2} <= set(outcome.differing)


def test_what_a_view_left_behind_goes_when_no_later_row_could_need_it():
    kept, gone = Section(10 * DAY, b"kept"), Section(DAY, b"gone")
    start = STREAM.advance(UserState(Memory(), {"left@1": kept, "left@2": gone}), [])
    assert start.state.sections == {"left@1": kept, "left@2": gone}
    later = UserState(Memory(last_arrived_us=5 * DAY), {"left@1": kept, "left@2": gone})
    assert STREAM.advance(later, []).state.sections == {"left@1": kept}
