"""Keeps the metrics of Feast's monitoring in Parquet files beside `feature_store.yaml`, as stock Feast's stores do.

The files have stock Feast's names, columns and keys, so both can read each other's. They are replaced atomically under a
lock: a reader sees the old file or the new one, and two simultaneous runs lose no rows.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from feast.monitoring.monitoring_utils import (
    MONITORING_DIR,
    MONITORING_PARQUET_FILES,
    MONITORING_TIMESTAMP_FIELDS,
    monitoring_parquet_meta,
    normalize_monitoring_row,
)

from stillpoint.errors import CorruptData, InvalidInput
from stillpoint.stores.history.write import locked, write_file

Row = dict[str, Any]
"""One row of a file: Feast gives and takes plain dictionaries."""

_UTC = pa.timestamp("us", tz="UTC")
_TYPES: dict[str, pa.DataType] = {
    "metric_date": pa.date32(),
    **dict.fromkeys(("computed_at", "max_event_timestamp", "started_at", "completed_at"), _UTC),
    "is_baseline": pa.bool_(),
    **dict.fromkeys(
        ("row_count", "null_count", "total_row_count", "total_features", "features_with_nulls", "total_feature_views"),
        pa.int64(),
    ),
    **dict.fromkeys(
        ("null_rate", "avg_null_rate", "max_null_rate", "mean", "stddev", "min_val", "max_val"), pa.float64()
    ),
    **dict.fromkeys(("p50", "p75", "p90", "p95", "p99"), pa.float64()),
}


class MetricFiles:
    """The four files of metrics in a repository's folder."""

    def __init__(self, repository: Path) -> None:
        self._folder: Path = repository / MONITORING_DIR

    def prepare(self) -> None:
        """Write an empty file where there is none."""
        for metric_type in MONITORING_PARQUET_FILES:
            if not self._path(metric_type).exists():
                self._change(metric_type, lambda rows: rows)

    def save(self, metric_type: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; a row replaces the stored row of the same key."""
        keys = monitoring_parquet_meta(metric_type)[2]

        def merged(before: list[Row]) -> list[Row]:
            kept: dict[tuple[Any, ...], Row] = {}
            for row in (*before, *map(_stored, rows)):
                key = tuple(row.get(column) for column in keys)
                kept.pop(key, None)
                kept[key] = dict(row)
            return list(kept.values())

        if rows:
            self._change(metric_type, merged)

    def query(
        self,
        metric_type: str,
        project: str,
        filters: Mapping[str, Any] | None = None,
        start: date | None = None,
        end: date | None = None,
    ) -> list[Row]:
        """Return rows in order of their dates, in Feast's form: times as ISO text, histograms as dictionaries.

        An empty project means all projects, a filter of None is ignored, and both dates are included.

        Raises:
            InvalidInput: a filter names no column.
        """
        columns = monitoring_parquet_meta(metric_type)[1]
        wanted = {name: value for name, value in (filters or {}).items() if value is not None}
        wanted |= {"project_id": project} if project else {}
        unknown = sorted(set(wanted) - set(columns))
        if unknown:
            raise InvalidInput(
                f"metrics of a {metric_type} have no column {', '.join(unknown)}; they have {', '.join(columns)}"
            )
        found = [
            row
            for row in self._rows(metric_type)
            if all(row[name] == value for name, value in wanted.items())
            and (start is None or (row["metric_date"] is not None and row["metric_date"] >= start))
            and (end is None or (row["metric_date"] is not None and row["metric_date"] <= end))
        ]
        found.sort(key=lambda row: row["metric_date"] or date.max)
        return [normalize_monitoring_row(row) for row in found]

    def clear_baseline(self, project: str, wanted: Mapping[str, str | None]) -> None:
        """Clear the baseline flag of the matching rows."""
        asked = {"project_id": project} | {name: value for name, value in wanted.items() if value is not None}

        def cleared(rows: list[Row]) -> list[Row] | None:
            matching = [
                row for row in rows if row["is_baseline"] and all(row[name] == value for name, value in asked.items())
            ]
            for row in matching:
                row["is_baseline"] = False
            return rows if matching else None

        self._change("feature", cleared)

    def _path(self, metric_type: str) -> Path:
        name: str = monitoring_parquet_meta(metric_type)[0]
        return self._folder / name

    def _rows(self, metric_type: str) -> list[Row]:
        path = self._path(metric_type)
        if not path.exists():
            return []
        columns = monitoring_parquet_meta(metric_type)[1]
        try:
            rows: list[Row] = pq.read_table(path).to_pylist()
            return [{name: row.get(name) for name in columns} for row in rows]
        except (pa.ArrowInvalid, OSError) as error:
            raise CorruptData(f"monitoring metrics in {path} cannot be read ({error}); move the file away") from None

    def _change(self, metric_type: str, change: Callable[[list[Row]], list[Row] | None]) -> None:
        """Replace a file by what `change` makes of its rows, or leave it if that is None."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path, disk = self._path(metric_type), pafs.LocalFileSystem()
        schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in monitoring_parquet_meta(metric_type)[1]])
        with locked(disk, str(path)):
            rows = change(self._rows(metric_type))
            if rows is not None:
                write_file(disk, str(path), pa.Table.from_pylist(rows, schema=schema))


def _stored(row: Mapping[str, Any]) -> Row:
    found = dict(row)
    if found.get("histogram") is not None and not isinstance(found["histogram"], str):
        found["histogram"] = json.dumps(found["histogram"])
    for name in (*MONITORING_TIMESTAMP_FIELDS, "started_at", "completed_at"):
        if isinstance(found.get(name), str):
            read = date if name == "metric_date" else datetime
            found[name] = read.fromisoformat(found[name])
    return found
