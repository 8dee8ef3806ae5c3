"""What happens to an event is one connected trace, over processes that share only its id, and free when it is off."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

import inference.worker.entry
from inference.http.event_spans import spans as event_spans
from inference.predictions.stored_recommendations import Recommendations
from inference.worker.entry import create_worker
from stillpoint.errors import InvalidSettings
from stillpoint.events.types import EventType
from stillpoint.lake.tables import Lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.provision import provision
from stillpoint.messages import Kind, PredictionRequest, request_id
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.tracing import EVENT, Span, Tracing, trace_id, tracing
from tests.support.hand_made import hand_made

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
EVENT_ID = "5f0c1c36-6d3a-4f5e-9c1e-0a4b8f1d2c3e"


def tree(spans: Any) -> dict[str, str | None]:
    """Return each span's name with its parent's; one that is missing is `lost`."""
    names = {span.context.span_id: span.name for span in spans}
    return {span.name: None if span.parent is None else names.get(span.parent.span_id, "lost") for span in spans}


def test_an_event_and_the_recommendations_it_led_to_are_one_trace(
    settings: Settings,
    s3_lake: Lake,
    aws: AwsServer,
    unique: str,
    redis_factory: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("redis_green", "redis_blue", "redis_serving")
    own = dict.fromkeys(names, SecretStr(redis_factory().connection_string))
    settings = settings.model_copy(update=own)
    provision(settings)
    hand_made(s3_lake, settings, project=f"stillpoint_{unique}").point()
    exporter = InMemorySpanExporter()
    made = Tracing(SimpleSpanProcessor(exporter), share=1.0, service="worker")
    monkeypatch.setattr(inference.worker.entry, "tracing", lambda settings, service: made)
    now = datetime.now(UTC)
    sqs: Any = aws.client("sqs")
    url = sqs.get_queue_url(QueueName=settings.prediction_queue)["QueueUrl"]
    for kind in (Kind.TODAY, Kind.SLEEP):
        asked = PredictionRequest(
            request_id=request_id(EVENT_ID, kind),
            user_id="u1",
            kind=kind,
            event_id=EVENT_ID,
            event_type=EventType.CONTENT_EXIT,
            event_timestamp=now - timedelta(seconds=3),
            arrived_at=now - timedelta(seconds=2),
            enqueued_at=now - timedelta(seconds=1),
        )
        sqs.send_message(QueueUrl=url, MessageBody=asked.to_bytes().decode())
    worker, close = create_worker(settings)
    thread = threading.Thread(target=worker.run)
    thread.start()
    deadline = time.monotonic() + 20
    while len(exporter.get_finished_spans()) < 15 and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.stop()
    thread.join()
    spans = exporter.get_finished_spans()
    close()
    assert {span.context.trace_id for span in spans} == {trace_id(EVENT_ID)}
    assert tree(spans) == {
        "event content_exit": None,
        "recommendation today": "event content_exit",
        "recommendation sleep": "event content_exit",
    } | {stage: tree(spans)[stage] for stage in ("stream", "commit", "queue", "read", "rank", "store")}
    children = [span for span in spans if span.name in ("stream", "commit", "queue", "read", "rank", "store")]
    for whole in (span for span in spans if span.name.startswith("recommendation")):
        parts = sorted(
            (one for one in children if one.parent.span_id == whole.context.span_id), key=lambda one: one.start_time
        )
        assert [one.name for one in parts] == ["stream", "commit", "queue", "read", "rank", "store"]
        assert (parts[0].start_time, parts[-1].end_time) == (whole.start_time, whole.end_time)
        assert all(one.end_time == following.start_time for one, following in itertools.pairwise(parts))
    held = Recommendations(connect(settings.redis_serving.get_secret_value())).get("u1", [Kind.TODAY], "r0001")[0]
    assert held is not None
    (today,) = [span for span in spans if span.name == "recommendation today"]
    assert today.attributes["stillpoint.recommendation_id"] == held.recommendation_id


def span(event_id: str, key: str = EVENT, parent: str | None = None) -> Span:
    return Span(event_id=event_id, key=key, parent=parent, name=key, start=AT, end=AT)


def test_two_processes_that_share_only_the_event_s_id_add_to_one_trace_and_repeat_the_same_spans() -> None:
    exporter, other = InMemorySpanExporter(), InMemorySpanExporter()
    Tracing(SimpleSpanProcessor(exporter), share=1.0, service="a").add([span(EVENT_ID)])
    Tracing(SimpleSpanProcessor(other), share=1.0, service="b").add([span(EVENT_ID.upper(), "late", EVENT)] * 2)
    spans = [*exporter.get_finished_spans(), *other.get_finished_spans()]
    assert tree(spans) == {"event": None, "late": "event"}
    assert len({one.context.span_id for one in spans}) == 2


def test_an_event_that_came_over_http_adds_how_long_it_took_to_put_it_on_the_stream() -> None:
    exporter = InMemorySpanExporter()
    made = Tracing(SimpleSpanProcessor(exporter), share=1.0, service="service")
    payloads = [("u1", b'{"event_id": "%s", "user_id": "u1"}' % EVENT_ID.encode())]
    made.add([span(EVENT_ID), *event_spans(payloads, AT, AT + timedelta(milliseconds=7))])
    _, http = exporter.get_finished_spans()
    assert tree(exporter.get_finished_spans()) == {"event": None, "POST /v1/events": "event"}
    assert http.end_time - http.start_time == 7_000_000


def test_a_share_of_the_events_is_traced_whole() -> None:
    exporter = InMemorySpanExporter()
    made = Tracing(SimpleSpanProcessor(exporter), share=0.25, service="a")
    events = [f"event{number}" for number in range(2_000)]
    made.add(one for event in events for one in (span(event), span(event, "late", EVENT)))
    found = exporter.get_finished_spans()
    assert len(found) == 2 * sum(made.wants(event) for event in events)
    assert len(found) / 4_000 == pytest.approx(0.25, abs=0.04)


class Collector(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, bytes]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.shutdown()
    server.server_close()


def test_spans_reach_a_collector_by_otlp_at_the_latest_at_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    made = tracing(Settings(_env_file=None, trace_share=1.0), "stillpoint-worker")
    assert made is not None
    made.add([span(EVENT_ID)])
    made.close()
    ((path, body),) = collector.bodies
    assert path == "/v1/traces"
    assert trace_id(EVENT_ID).to_bytes(16, "big") in body
    assert b"stillpoint-worker" in body


def test_when_it_is_off_nothing_of_it_is_imported() -> None:
    # redis-py takes OpenTelemetry's metrics where it finds them
    code = (
        "import sys; from inference.worker.entry import tracing; from stillpoint.settings import Settings; "
        "print(tracing(Settings(_env_file=None), 's'), [m for m in sys.modules if m.startswith(('opentelemetry.sdk.trace.export', 'opentelemetry.exporter'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "None []"


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InvalidSettings, match=r"install the extra `tracing` .*, or set it to 0"):
        tracing(Settings(_env_file=None, trace_share=0.5), "s")
