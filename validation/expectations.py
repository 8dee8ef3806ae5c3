"""Validates a dataset's rows against its suite, however many there are.

Great Expectations runs over one batch at a time and the counts are added up, so memory does not grow with the number of rows. Whether
rows with equal keys agree cannot be seen in one batch and is counted separately.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from validation.future import LATEST_AHEAD
from validation.outcome import Finding, ValidationResult, outcome
from validation.suites import Suite

if TYPE_CHECKING:
    import polars as pl

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

TIMES = ("event_timestamp", "created_timestamp", "arrived_at")
_EXAMPLES = 5
_KEY_PARTS = 16


def validate(suite: Suite, tables: Iterable[pa.Table], *, at: datetime) -> ValidationResult:
    """Run a suite over tables of one schema, one at a time, and return the result. Timestamps after `at` are a failure."""
    tally = _Tally(suite, at + LATEST_AHEAD)
    for table in tables:
        if table.num_rows:
            tally.add(table)
    return outcome(suite.name, at, tally.rows, tally.findings())


class _Tally:
    """The sums of a suite's results over the batches seen so far."""

    def __init__(self, suite: Suite, latest: datetime) -> None:
        self._suite = suite
        self._latest = latest
        self._ahead: dict[str, Finding] = {}
        self._checks = _checks(suite)
        self._found: dict[int, dict[str, Any]] = {}
        self._keys: list[pl.DataFrame] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        for name in TIMES:
            if name in table.column_names and pa.types.is_timestamp(table[name].type):
                self._ahead[name] = _of_the_future(table[name], self._latest, name, self._ahead.get(name))
        with contextlib.redirect_stderr(io.StringIO()):
            batch = _frame().get_batch({"dataframe": self._suite.frame(table)})
            result = batch.validate(self._checks, result_format="BASIC")
        for number, single in enumerate(result.results):
            self._add_one(number, single)
        if self._suite.key:
            self._keys.append(_hashes(table, self._suite.key))

    def _add_one(self, number: int, single: Any) -> None:
        sums = self._found.setdefault(
            number, {"config": single.expectation_config, "passed": True, "checked": 0, "unexpected": 0, "examples": []}
        )
        sums["passed"] = sums["passed"] and bool(single.success)
        if single.exception_info and single.exception_info.get("raised_exception"):
            sums["note"] = f"could not be checked: {single.exception_info['exception_message']}"
        sums["checked"] += single.result.get("element_count", 0) - single.result.get("missing_count", 0)
        sums["unexpected"] += single.result.get("unexpected_count", 0)
        room = _EXAMPLES - len(sums["examples"])
        sums["examples"] += [repr(value) for value in single.result.get("partial_unexpected_list", ())[:room]]

    def findings(self) -> Iterable[Finding]:
        for sums in self._found.values():
            arguments = sums["config"].kwargs
            yield Finding(
                check=sums["config"].type,
                column=arguments.get("column"),
                expected=_expected(sums["config"].type, arguments),
                passed=sums["passed"],
                checked=sums["checked"],
                unexpected=sums["unexpected"],
                examples=tuple(sums["examples"]),
                note=sums.get("note"),
            )
        yield from self._ahead.values()
        if self._keys:
            yield self._unambiguous()

    def _unambiguous(self) -> Finding:
        import polars as pl

        rows = pl.concat(self._keys)
        conflicts = 0
        for part in range(_KEY_PARTS):  # 16 bytes per row are kept; comparing all at once would take ten times that
            own = rows.filter(pl.col("key") % _KEY_PARTS == part)
            conflicts += own.unique().height - own["key"].n_unique()
        return Finding(
            check="unambiguous_key",
            column=", ".join(self._suite.key),
            expected="rows of one key to be equal (replays and backfills may repeat a row)",
            passed=conflicts == 0,
            checked=rows.height,
            unexpected=conflicts,
        )


def _of_the_future(column: pa.ChunkedArray, latest: datetime, name: str, before: Finding | None) -> Finding:
    """Add the number of timestamps after `latest` to the counts."""
    ahead = column.filter(pc.greater(column, pa.scalar(latest, column.type)))
    former = before.examples if before is not None else ()
    examples = tuple(repr(str(one)) for one in ahead.slice(0, _EXAMPLES - len(former)).to_pylist())
    unexpected = len(ahead) + (before.unexpected if before is not None else 0)
    return Finding(
        check="no_time_of_the_future",
        column=name,
        expected=f"at most {latest:%Y-%m-%dT%H:%M:%SZ}, as later times lie in the future (`stillpoint repair future`)",
        passed=unexpected == 0,
        checked=len(column) - column.null_count + (before.checked if before is not None else 0),
        unexpected=unexpected,
        examples=former + examples,
    )


def _hashes(table: pa.Table, key: tuple[str, ...]) -> "pl.DataFrame":
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(table))
    return pl.DataFrame({"key": frame.select(key).hash_rows(seed=0), "row": frame.hash_rows(seed=0)})


@cache
def _frame() -> Any:
    """Return a function that makes a pandas frame a batch of Great Expectations, in an ephemeral context."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx

    frames = gx.get_context(mode="ephemeral").data_sources.add_pandas("frames")
    return frames.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole")


def _checks(suite: Suite) -> Any:
    import great_expectations as gx

    return gx.ExpectationSuite(name=suite.name, expectations=list(suite.checks))


def _expected(kind: str, arguments: dict[str, Any]) -> str:
    """Return an expectation in words, with its bounds."""
    match kind:
        case "expect_column_values_to_not_be_null":
            return "no null"
        case "expect_column_values_to_be_null":
            return "nothing in any row"
        case "expect_column_values_to_be_between":
            low, high = (_bound(arguments.get(name)) for name in ("min_value", "max_value"))
            if low is None:
                return f"at most {high}"
            if low == high:
                return f"exactly {low}"
            return f"at least {low}" if high is None else f"from {low} to {high}"
        case "expect_column_values_to_be_in_set":
            return f"one of {', '.join(str(value) for value in arguments['value_set'])}"
        case "expect_column_values_to_match_regex":
            return f"text like {arguments['regex']}"
        case "expect_table_columns_to_match_set":
            return f"exactly the columns {', '.join(sorted(arguments['column_set']))}"
        case "expect_column_unique_value_count_to_be_between":
            return f"at least {arguments.get('min_value')} distinct values"
        case _:
            return kind.removeprefix("expect_").replace("_", " ")


def _bound(value: float | None) -> str | None:
    return None if value is None else f"{value:,g}"
