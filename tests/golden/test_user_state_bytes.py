"""The stream still reads the state of a user that a running stream of today has written.

The golden files are states as Redis holds them, of each version that is read. Whoever changes the format raises
`STATE_VERSION` and writes a golden file of the new version.
"""

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillpoint.clock import DAY, SECOND
from stillpoint.errors import CorruptData
from stillpoint.events.types import Category, EventType
from stillpoint.features.streamed.engine import section_name
from stillpoint.features.streamed.state import STATE_VERSION, UserState
from stillpoint.features.streamed.stream import AppStream
from tests import oracle
from tests.support.wellness import APP, STREAMED_VIEWS, arrival

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / f"user_state_v{STATE_VERSION}.bin"
BEGIN = 1_772_000_000 * SECOND
MINUTE = 60 * SECOND


class Directions:
    """An encoder whose vectors are exact on every machine: each text is a direction of its own."""

    sha256 = "none"

    def encode(self, texts):
        vectors = np.zeros((len(texts), 256), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[len(text)] = 1.0
        return vectors


def event(number, what, minutes, **fields):
    moment = BEGIN + int(minutes * MINUTE)
    return arrival(str(uuid.UUID(int=number)), "u1", what, moment, moment + 40_000 + number, **fields)


def played(number, what, minutes, play, category=Category.SLEEP, position=None):
    content = {"play_id": play, "content_id": "c1", "category": category, "position_seconds": position}
    return event(number, what, minutes, **content)


BEFORE = [
    event(1, EventType.LOGIN, 0),
    event(2, EventType.SEARCH, 1, query="deep sleep"),
    played(3, EventType.CONTENT_START, 2, "p1"),
    played(4, EventType.CONTENT_EXIT, 2.5, "p1", position=30.0),
    event(5, EventType.BIOMETRIC, 3, heart_rate_bpm=70.5, steps=20),
    event(6, EventType.BIOMETRIC, 8, heart_rate_bpm=81.25, steps=None),
    played(7, EventType.CONTENT_START, 14, "p2", Category.FOCUS),
    event(8, EventType.SEARCH, 15, query="calm"),
    event(9, EventType.IMPRESSION, 15, recommendation_id="r", kind=None, items=("c1",), surface="home"),
]
AFTER = [
    event(8, EventType.SEARCH, 15, query="calm"),
    event(8, EventType.SEARCH, 15, query="another"),
    event(10, EventType.BIOMETRIC, 9, heart_rate_bpm=100.0, steps=50),
    event(11, EventType.SEARCH, 16, query="focus now"),
    played(12, EventType.CONTENT_EXIT, 17, "p2", Category.FOCUS, 12.0),
    played(13, EventType.CONTENT_START, 4, "p3"),
]


STREAM = AppStream(APP, encoder=Directions(), max_event_age_us=DAY)


def step(state, arrivals):
    return STREAM.advance(state, arrivals)


def test_a_state_has_the_very_bytes_of_the_golden_file(golden):
    golden(GOLDEN.name, step(UserState(), BEFORE).state.to_bytes())


@pytest.mark.parametrize("version", [1, 2])
def test_a_state_of_the_golden_file_goes_on_as_the_oracle_says(version):
    stored = STREAM.state((FOLDER / f"user_state_v{version}.bin").read_bytes())
    assert set(stored.sections) == STREAM.sections
    outcome = step(stored, AFTER)
    verdicts, events = oracle.verdicts([*BEFORE, *AFTER], max_event_age_us=DAY)
    assert [str(verdict) for verdict in outcome.verdicts] == verdicts[len(BEFORE) :]
    assert verdicts[len(BEFORE) :] == ["duplicate", "duplicate", "on_time", "on_time", "on_time", "late"]
    assert outcome.differing == ((1,) if version == 2 else ())
    on_time = [one for one, verdict in zip(events, verdicts, strict=True) if verdict == "on_time"]
    for view in STREAMED_VIEWS:
        wanted = {row[:2]: row for row in oracle.rows(view.name, on_time, Directions().encode)}
        found = oracle.newest(outcome.rows[view.name])
        assert found
        assert {key: oracle.bits(row) for key, row in found.items()} == {key: oracle.bits(wanted[key]) for key in found}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x97\x03\xc0\x90\x90\xc4\x00\xc4\x00\xc4\x00", "a user state of version 3; expected 2"),
        (b"\x96\x01\x02\x03\x04\x05\x06", "7 bytes are no user state"),
        (b"\x93\x01\x02\x03", "4 bytes are no user state"),
        (b"\xc1", "1 bytes are no user state"),
    ],
)
def test_bytes_of_another_version_are_refused_and_never_misread(data, words):
    with pytest.raises(CorruptData, match=words):
        STREAM.state(data)


def test_a_section_that_no_view_knows_is_kept():
    (biometrics,) = (view for view in APP.views if view.name == "biometrics")
    alone = AppStream(replace(APP, views=(biometrics,)), encoder=None, max_event_age_us=DAY)
    state = STREAM.state(GOLDEN.read_bytes())
    after = alone.advance(state, [one for one in AFTER if one.type == "biometric"]).state
    assert after.sections.keys() == state.sections.keys()
    assert {name for name in after.sections if after.sections[name] != state.sections[name]} == {
        section_name(biometrics)
    }
