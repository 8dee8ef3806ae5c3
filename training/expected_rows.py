"""Checks a snapshot's rows against the declarations while it is taken; the result goes into its manifest."""

import logging
from collections.abc import Callable
from importlib.util import find_spec

import pyarrow as pa

from stillpoint.app.feature_set import FeatureSet
from stillpoint.clock import Clock
from stillpoint.snapshots import Expectation

BATCH_ROWS = 250_000


def expectations(features: FeatureSet, clock: Clock) -> Callable[[pa.Table], list[Expectation]] | None:
    """Return a function that checks the rows, or None if Great Expectations (the extra `validate`) is not installed.

    The checks are those of `stillpoint validate snapshot`.
    """
    if find_spec("great_expectations") is None:
        return None
    logging.getLogger("great_expectations").setLevel(
        logging.WARNING
    )  # otherwise its import logs about a hundred functions
    from validation.expectations import validate
    from validation.suites import snapshot_suite

    def expect(rows: pa.Table) -> list[Expectation]:
        parts = (rows.slice(start, BATCH_ROWS) for start in range(0, rows.num_rows, BATCH_ROWS))
        found = validate(snapshot_suite(features), parts, at=clock())
        return [
            Expectation(
                column=one.column,
                expected=one.expected,
                passed=one.passed,
                checked=one.checked,
                unexpected=one.unexpected,
            )
            for one in found.findings
        ]

    return expect
