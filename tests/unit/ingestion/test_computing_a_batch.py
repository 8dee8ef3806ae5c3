"""One bad record is found among good ones, and the rest goes on as if it had not been there."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from ingestion.compute import Rules, compute, parse_records
from ingestion.kinesis_shards import Record
from stillpoint.clock import DAY, SECOND, to_micros
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.features.streamed.stream import AppStream
from stillpoint.features.triggers import SearchedCategory
from stillpoint.tombstones import Tombstones
from tests.support.wellness import APP

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def rules():
    encoder = RememberingEncoder(WordLlamaEncoder())
    return Rules(
        AppStream(APP, encoder=encoder, max_event_age_us=DAY), encoder, SearchedCategory(encoder), Tombstones(b"key")
    )


def record(number, user="u1", *, key=None, **fields):
    document = {
        "schema_version": 1,
        "event_id": str(uuid.UUID(int=number)),
        "user_id": user,
        "type": "login",
        "event_timestamp": (NOW + timedelta(seconds=number)).isoformat(),
        "platform": "ios",
        **fields,
    }
    arrived = to_micros(NOW) + number * SECOND
    return Record("s0", str(1000 + number), key or user, arrived, json.dumps(document).encode())


def run(records, rules, states=None):
    users, refused = parse_records(records, rules.stream.parser)
    return compute(users, refused, states or {}, rules, now_us=to_micros(NOW))


def test_every_record_gets_exactly_one_verdict(rules):
    records = [record(n) for n in range(4)] + [record(3), record(5)._replace(data=b"{"), record(6, key="another")]
    result = run(records, rules)
    assert {str(verdict): count for verdict, count in result.verdicts.items()} == {
        "on_time": 4,
        "duplicate": 1,
        "quarantined": 2,
    }
    assert {item.field for item in result.quarantined} == {None, "user_id"}


def test_records_are_taken_in_sequence_order_however_they_were_partitioned(rules):
    records = [record(n, type="search", query="deep sleep") for n in range(6)]
    forward, backward = run(records, rules), run(records[::-1], rules)
    assert [event.event_id for event, _, _ in forward.events] == [event.event_id for event, _, _ in backward.events]
    assert forward.states["u1"][1].to_bytes() == backward.states["u1"][1].to_bytes()


def test_a_record_whose_computation_fails_is_quarantined_alone(rules, monkeypatch):
    poison = str(uuid.UUID(int=2))

    known = AppStream.advance

    def fails(stream, state, arrivals, **more):
        if any(event.event_id == poison for event in arrivals):
            raise ZeroDivisionError("no luck")
        return known(stream, state, arrivals, **more)

    monkeypatch.setattr(AppStream, "advance", fails)
    records = [record(n) for n in range(5)] + [record(n, "u2") for n in range(10, 13)]
    result = run(records, rules)
    (aside,) = result.quarantined
    assert aside.record == records[2]
    assert aside.reason == "computation failed: ZeroDivisionError: no luck"
    assert result.verdicts["on_time"] == 7
    monkeypatch.undo()
    without = run([one for one in records if one is not records[2]], rules)
    assert {user: after.to_bytes() for user, (_, after) in result.states.items()} == {
        user: after.to_bytes() for user, (_, after) in without.states.items()
    }


def test_only_on_time_events_ask_for_predictions(rules):
    play = {"play_id": "p", "content_id": "c", "category": "sleep", "position_seconds": 5, "type": "content_exit"}
    late = record(2, **play, event_timestamp=(NOW - timedelta(minutes=20)).isoformat())
    result = run([record(1, **play), late, record(1, **play)], rules)
    assert [(event.event_id, str(kind)) for event, kind in result.requests] == [
        (str(uuid.UUID(int=1)), "today"),
        (str(uuid.UUID(int=1)), "sleep"),
    ]


def test_the_sample_with_which_exertion_rises_asks_for_predictions_once(rules):
    pulse = {"type": "biometric"}
    samples = [(60, 0, 70), (180, 0, 70), (360, 30, 80), (420, 30, 90)]
    records = [record(second, **pulse, steps=steps, heart_rate_bpm=rate) for second, steps, rate in samples]
    first = run(records[:2], rules)
    second = run(records[2:], rules, {user: after.to_bytes() for user, (_, after) in first.states.items()})
    for result in (run(records, rules), second):
        assert [(event.event.steps, str(kind)) for event, kind in result.requests] == [(30, "today"), (30, "next")]
    assert first.requests == []
