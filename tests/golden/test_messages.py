"""Messages have the very bytes that running workers and consumers of today read.

Who changes a format raises its `schema_version`: readers of the old one refuse it by name, and what they refuse lies in the
dead letters (`tests/integration/test_worker_faults.py`).
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from stillpoint.events.types import EventType
from stillpoint.messages import Channel, Item, Kind, PredictionRequest, Push, StoredRecommendation, request_id

GOLDEN = Path(__file__).parent
AT = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
EVENT = "5f0c1c36-6d3a-4f5e-9c1e-0a4b8f1d2c3e"
REQUEST = request_id(EVENT, Kind.NEXT)
MESSAGES: dict[str, BaseModel] = {
    "prediction_request_v1.json": PredictionRequest(
        request_id=REQUEST,
        user_id="u-42_A",
        kind=Kind.NEXT,
        event_id=EVENT,
        event_type=EventType.CONTENT_COMPLETE,
        event_timestamp=AT,
        arrived_at=AT + timedelta(milliseconds=40),
        enqueued_at=AT + timedelta(milliseconds=900),
    ),
    "push_v1.json": Push(
        push_id="0" * 32,
        user_id="u-42_A",
        channel=Channel.MODAL,
        content_id="c0042",
        reason="you searched for sleep",
        recommendation_id="0" * 32,
        release="r0007",
        created_at=AT,
        expires_at=AT + timedelta(minutes=30),
    ),
    "stored_recommendation_v1.json": StoredRecommendation(
        recommendation_id="0" * 32,
        request_id=REQUEST,
        user_id="u-42_A",
        kind=Kind.TODAY,
        release="r0007",
        generation=9,
        mapping_version=3,
        event_timestamp=AT,
        created_at=AT + timedelta(seconds=1),
        trigger=EventType.SEARCH,
        items=(Item(content_id="c0042", title="Träume in “B”", category="sleep", score=0.8125),),
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_written_as_it_was(name: str, golden) -> None:  # type: ignore[no-untyped-def]
    golden(name, MESSAGES[name].model_dump_json().encode() + b"\n")


@pytest.mark.parametrize("name", MESSAGES)
def test_yesterdays_message_is_understood(name: str) -> None:
    message = MESSAGES[name]
    assert type(message).model_validate_json((GOLDEN / name).read_bytes()) == message


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize(("old", "new"), [('"schema_version":1', '"schema_version":2'), ('{"', '{"mood":1,"')])
def test_a_later_version_or_a_field_that_nobody_knows_is_refused_by_name(name: str, old: str, new: str) -> None:
    text = (GOLDEN / name).read_text().replace(old, new, 1)
    with pytest.raises(ValidationError, match=r"schema_version|mood"):
        type(MESSAGES[name]).model_validate_json(text)
