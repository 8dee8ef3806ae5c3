"""Trace spans that a prediction adds to its event's trace. (pure)

Below the event's span: one span per request, from the record's arrival to the stored recommendation, and below it one per
step: the stream's computation and commit, the queue, reading, ranking, storing.
"""

from collections.abc import Iterator

from inference.worker.jobs import JobOutcome
from stillpoint.messages import Kind
from stillpoint.tracing import EVENT, Span


def spans(outcome: JobOutcome) -> Iterator[Span]:
    """Yield the spans of one prediction. Every triggering event makes a request for `today`, and that one also yields the
    event's own span, from when it happened to its arrival."""
    request = outcome.request
    if request.kind is Kind.TODAY:
        yield Span(
            event_id=request.event_id,
            key=EVENT,
            parent=None,
            name=f"event {request.event_type}",
            start=min(request.event_timestamp, request.arrived_at),
            end=request.arrived_at,
            attributes={"stillpoint.event_type": str(request.event_type)},
        )
    yield Span(
        event_id=request.event_id,
        key=request.request_id,
        parent=EVENT,
        name=f"recommendation {request.kind}",
        start=request.arrived_at,
        end=outcome.stored,
        attributes={
            "stillpoint.kind": str(request.kind),
            "stillpoint.recommendation_id": outcome.prediction.recommendation_id,
            "stillpoint.release": outcome.prediction.release,
            "stillpoint.source": str(outcome.prediction.source),
            "stillpoint.arm": outcome.prediction.arm,
        },
    )
    moments = (
        ("stream", request.arrived_at, request.enqueued_at),
        ("commit", request.enqueued_at, outcome.sent),
        ("queue", outcome.sent, outcome.began),
        ("read", outcome.began, outcome.read),
        ("rank", outcome.read, outcome.ranked),
        ("store", outcome.ranked, outcome.stored),
    )
    for name, start, end in moments:
        yield Span(
            event_id=request.event_id,
            key=f"{request.request_id}:{name}",
            parent=request.request_id,
            name=name,
            start=start,
            end=end,
        )
