"""The stream's metrics say what the batches did."""

from datetime import timedelta

import pytest

from ingestion.metrics import StreamMetrics
from stillpoint.clock import to_micros
from tests.support.batch_world import Parts, World


@pytest.fixture
def world(tmp_path, redis_server, unique):
    return World(tmp_path, redis_server, unique)


def test_freshness_is_the_newest_event_time_per_view_and_colour_and_never_goes_back(world):
    metrics, processor = StreamMetrics(), world.processor()
    for number, seconds in enumerate([(1, 5), (3,)]):
        processor.process(Parts(world.searches(seconds), 2), number)
        metrics.batch(world.reports[-1])
    labels = {"colour": "green", "view": "search_embeddings"}
    newest = metrics.registry.get_sample_value("stillpoint_newest_event_time_seconds", labels)
    assert newest == pytest.approx((to_micros(world.now + timedelta(seconds=5))) / 1_000_000, abs=1e-6)
    written = sum(report.rows["green/search_embeddings"] for report in world.reports)
    assert metrics.registry.get_sample_value("stillpoint_rows_total", labels) == written
    assert metrics.registry.get_sample_value("stillpoint_events_total", {"verdict": "on_time"}) == 3
