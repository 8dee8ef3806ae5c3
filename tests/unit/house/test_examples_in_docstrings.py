"""The examples in the docstrings of public functions give what they show."""

import doctest
import importlib

import pytest

MODULES = [
    "inference.http.event_intake",
    "inference.predictions.predict",
    "inference.predictions.stored_recommendations",
    "ingestion.kinesis_shards",
    "privacy.erasure.rows",
    "release.checks.replay",
    "release.gate",
    "stillpoint.cli.moments",
    "stillpoint.clock",
    "stillpoint.durations",
    "stillpoint.events.parsing",
    "stillpoint.experiments",
    "stillpoint.releases.colour",
    "stillpoint.stores.history.point_in_time",
    "stillpoint.stores.reading.plan",
    "stillpoint.stores.redis.layout",
    "stillpoint.stores.values.encode",
    "stillpoint.stores.values.exact",
    "training.evaluate",
    "validation.parity",
]
"""Each holds at least one example; other modules may be added freely."""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_show(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
