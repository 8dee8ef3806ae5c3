"""Trace spans that a prediction adds to its event's trace. (pure)

Under the event: one span per request, from the record's arrival to the stored recommendation, and within it what it went
through: the stream's computation and its commit, the queue, reading, ranking, storing.
"""

from collections.abc import Iterator

from inference.worker.jobs import JobOutcome
from stillpoint.messages import Kind
from stillpoint.tracing import EVENT, Span


def spans(made: JobOutcome) -> Iterator[Span]:
    """Return the spans of one prediction. Of an event's requests the one for `today`, which each of them makes, brings the
    event's own span, from when it happened to its arrival."""
    request = made.request
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
        end=made.stored,
        attributes={
            "stillpoint.kind": str(request.kind),
            "stillpoint.recommendation_id": made.prediction.recommendation_id,
            "stillpoint.release": made.prediction.release,
            "stillpoint.source": str(made.prediction.source),
            "stillpoint.arm": made.prediction.arm,
        },
    )
    moments = (
        ("stream", request.arrived_at, request.enqueued_at),
        ("commit", request.enqueued_at, made.sent),
        ("queue", made.sent, made.began),
        ("read", made.began, made.read),
        ("rank", made.read, made.ranked),
        ("store", made.ranked, made.stored),
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
