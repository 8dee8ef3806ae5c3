"""Publishes the lake's committed files as Iceberg tables, without copying a row.

A table's data files are the lake's own. A publication compares those that count with those that the table has, and replaces
the difference in one Iceberg snapshot: what was published before is not published again, whatever was killed when. Callers
hold the lease `publish`.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs as pafs

from stillpoint.errors import CorruptData
from stillpoint.lake.datasets import TABLES
from stillpoint.lake.tables import Lake
from stillpoint.open_tables.catalogue import FOLDER, catalogue_errors, root_uri
from stillpoint.open_tables.plan import OpenTable, TableChange, change, open_tables

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

RUN = "stillpoint.run"
AS_OF = "stillpoint.as-of"
FILES_SHA256 = "stillpoint.files-sha256"
REPLACED = "stillpoint.replaced-in-place"
"""The table's property that tells, of files that may be replaced at their path, which size and time they had."""

_PROPERTIES = {
    "format-version": "2",
    # No bounds of ids or texts in metadata, which an erasure does not rewrite; of times, for pruning.
    "write.metadata.metrics.default": "counts",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
}


@dataclass(frozen=True, slots=True)
class TablePublication:
    """What one publication did to one table."""

    table: str
    added: int
    removed: int
    expired: int


def publish(
    lake: Lake,
    catalogue: "Catalog",
    *,
    namespace: str,
    at: datetime,
    keep: timedelta,
    named: str = "",
    progress: Callable[[TablePublication], None] = lambda _: None,
) -> list[TablePublication]:
    """Publish every table that has changed, and expire snapshots older than `keep`. Return the tables that changed.

    All snapshots of one publication carry the same `stillpoint.run` and `stillpoint.as-of`. A table is published whole or
    not at all.

    Raises:
        StackUnavailable: the catalogue or the lake is away; tables published before that stay published.
        CorruptData: a file's rows are not as many as its commit says.
    """
    done = []
    with catalogue_errors(named):
        catalogue.create_namespace_if_not_exists(namespace)
        for wanted in list(open_tables(lake)):
            table = _table(catalogue, namespace, wanted, root_uri(lake.root))
            found = _publish(lake, table, wanted, at=at, keep=keep)
            if found.added or found.removed or found.expired:
                done.append(found)
                progress(found)
        kept = {wanted.name for wanted in open_tables(lake)}
        for _, name in catalogue.list_tables(namespace):
            if name.startswith("snapshot_") and name not in kept:
                catalogue.drop_table((namespace, name))
    return done


def _table(catalogue: "Catalog", namespace: str, wanted: OpenTable, root: str) -> "Table":
    """Return a table, made or widened by new columns where that is needed."""
    identifier = (namespace, wanted.name)
    if not catalogue.table_exists(identifier):
        times = [field.name for field in wanted.columns if pa.types.is_timestamp(field.type)]
        bounds = {f"write.metadata.metrics.column.{name}": "full" for name in times}
        return catalogue.create_table(
            identifier,
            schema=wanted.columns,
            location=f"{root}/{FOLDER}{wanted.name}",
            properties={**_PROPERTIES, **bounds},
        )
    table = catalogue.load_table(identifier)
    known = {field.name for field in table.schema().fields}
    if set(wanted.columns.names) - known:
        with table.update_schema() as update:
            update.union_by_name(wanted.columns)
    return table


def _publish(lake: Lake, table: "Table", wanted: OpenTable, *, at: datetime, keep: timedelta) -> TablePublication:
    root = root_uri(lake.root)
    present: dict[str, DataFile] = {
        task.file.file_path.removeprefix(f"{root}/"): task.file for task in table.scan().plan_files()
    }
    before: dict[str, str] = json.loads(table.properties.get(REPLACED, "{}"))
    now = _marks(lake, wanted.files)
    changed = change(wanted.files, present, {key for key, mark in now.items() if before.get(key) != mark})
    if changed:
        _commit(table, wanted, changed, present, root=root, at=at, marks=now)
    expired = _expire(table, before=at - keep)
    if changed or expired:
        _sweep(lake, table)
    return TablePublication(wanted.name, len(changed.add), len(changed.remove), expired)


def _marks(lake: Lake, keys: Iterable[str]) -> dict[str, str]:
    """Return the size and time of the files that are replaced at their path: those below `tables/`."""
    filesystem, root = lake.objects.arrow()
    chosen = [key for key in keys if key.startswith(TABLES)]
    found = filesystem.get_file_info([f"{root}/{key}" for key in chosen])
    return {
        key: f"{info.size}-{info.mtime_ns}"
        for key, info in zip(chosen, found, strict=True)
        if info.type == pafs.FileType.File
    }


def _commit(
    table: "Table",
    wanted: OpenTable,
    changed: TableChange,
    present: "dict[str, DataFile]",
    *,
    root: str,
    at: datetime,
    marks: dict[str, str],
) -> None:
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    told = {RUN: f"{at:%Y%m%dT%H%M%S%f}", AS_OF: at.isoformat(), FILES_SHA256: wanted.sha256}
    with table.transaction() as transaction:
        names = transaction.table_metadata.schema().name_mapping.model_dump_json()
        transaction.set_properties({"schema.name-mapping.default": names, REPLACED: json.dumps(marks)})
        snapshot = transaction.update_snapshot(snapshot_properties=told)
        with snapshot.overwrite() if changed.remove else snapshot.merge_append() as producer:
            for key in changed.remove:
                producer.delete_data_file(present[key])
            for key in changed.add:
                file = parquet_file_to_data_file(table.io, transaction.table_metadata, f"{root}/{key}")
                rows = wanted.files[key]
                if rows is not None and file.record_count != rows:
                    raise CorruptData(f"{root}/{key} has {file.record_count} rows, and its commit says {rows}")
                producer.append_data_file(file)


def _expire(table: "Table", *, before: datetime) -> int:
    count = len(table.metadata.snapshots)
    moment = int(before.timestamp() * 1000)
    head = table.metadata.current_snapshot_id
    if any(one.timestamp_ms < moment and one.snapshot_id != head for one in table.metadata.snapshots):
        table.maintenance.expire_snapshots().older_than(before).commit()
        table.refresh()
    return count - len(table.metadata.snapshots)


def _sweep(lake: Lake, table: "Table") -> None:
    """Delete manifests that no snapshot of the table names any more; pyiceberg leaves them."""
    root = root_uri(lake.root)
    used = {one.manifest_list for one in table.metadata.snapshots}
    for snapshot in table.metadata.snapshots:
        used.update(manifest.manifest_path for manifest in snapshot.manifests(table.io))
    prefix = f"{table.location().removeprefix(f'{root}/')}/metadata/"
    for key in list(lake.objects.list(prefix)):
        if key.endswith(".avro") and f"{root}/{key}" not in used:
            lake.objects.delete(key)
