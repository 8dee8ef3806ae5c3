"""Traces that follow an event through processes that pass each other only the event's id.

Trace and span ids are derived from the event's id, so no trace context has to be passed along: messages, events and features
stay unchanged, and a replay repeats the same spans. Spans are data, with their times; only `Tracing` exports them. The share
of traced events is a setting, 0 by default; then nothing is imported or built.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stillpoint.clock import to_micros
from stillpoint.errors import InvalidSettings
from stillpoint.settings import Settings

EVENT = "event"
"""The key of the trace's first span, which all others descend from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One piece of work on behalf of an event. `key` tells it from the event's other spans; `parent` is another's key."""

    event_id: str
    key: str
    parent: str | None
    name: str
    start: datetime
    end: datetime
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def trace_id(event_id: str) -> int:
    """Return the 128-bit id of an event's trace."""
    return int.from_bytes(hashlib.sha256(event_id.lower().encode()).digest()[:16], "big")


def span_id(event_id: str, key: str) -> int:
    """Return the 64-bit id of one of an event's spans."""
    return int.from_bytes(hashlib.sha256(f"{event_id.lower()}\x00{key}".encode()).digest()[:8], "big")


class Tracing:
    """Exports spans of a share of the events, in batches and off the caller's path."""

    def __init__(self, processor: Any, *, share: float, service: str) -> None:
        """`processor` is a span processor of the OpenTelemetry SDK."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._processor = processor
        self._below = int(share * 2**128)
        self._resource = Resource.create({"service.name": service})
        self._scope = InstrumentationScope("stillpoint")

    def wants(self, event_id: str) -> bool:
        """Say whether an event is traced; all processes agree."""
        return trace_id(event_id) < self._below

    def add(self, spans: Iterable[Span]) -> None:
        """Hand over the spans of events that are traced."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, TraceFlags

        for span in spans:
            trace = trace_id(span.event_id)
            if trace >= self._below:
                continue

            def context(key: str, trace: int = trace, event_id: str = span.event_id) -> SpanContext:
                flags = TraceFlags(TraceFlags.SAMPLED)
                return SpanContext(trace, span_id(event_id, key), is_remote=key != EVENT, trace_flags=flags)

            self._processor.on_end(
                ReadableSpan(
                    name=span.name,
                    context=context(span.key),
                    parent=None if span.parent is None else context(span.parent),
                    resource=self._resource,
                    attributes=dict(span.attributes),
                    instrumentation_scope=self._scope,
                    start_time=to_micros(span.start) * 1_000,
                    end_time=to_micros(max(span.start, span.end)) * 1_000,
                )
            )

    def close(self) -> None:
        """Export what waits, and end."""
        self._processor.shutdown()


def tracing(settings: Settings, service: str) -> Tracing | None:
    """Return an exporter of traces by OTLP over HTTP to `OTEL_EXPORTER_OTLP_ENDPOINT`; None if tracing is off.

    Raises:
        InvalidSettings: tracing is on, and OpenTelemetry is not installed.
    """
    if not settings.trace_share:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise InvalidSettings(
            f"STILLPOINT_TRACE_SHARE is {settings.trace_share}, but OpenTelemetry is not installed; "
            "install the extra `tracing` (in a clone: `pip install '.[tracing]'`), or set it to 0"
        ) from None
    return Tracing(BatchSpanProcessor(OTLPSpanExporter()), share=settings.trace_share, service=service)
