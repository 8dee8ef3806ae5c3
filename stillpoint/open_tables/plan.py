"""Which Iceberg tables there are, of which files of the lake each consists, and what a publication changes."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from stillpoint.errors import CorruptData, ObjectMissing
from stillpoint.lake.datasets import TABLES, feature_dataset, snapshot_rows
from stillpoint.lake.tables import Lake

SNAPSHOTS = "snapshots/"
DATASETS = ("events", "served", "users", "catalogue")
"""The datasets that every lake has; the views' stand beside them."""


@dataclass(frozen=True, slots=True)
class OpenTable:
    """An Iceberg table: its columns, and the files of the lake that it consists of, with their rows where commits tell."""

    name: str
    columns: pa.Schema
    files: Mapping[str, int | None]

    @property
    def sha256(self) -> str:
        """Return a digest of the files' keys, by which anybody can tell what a snapshot consists of."""
        return hashlib.sha256("\n".join(sorted(self.files)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TableChange:
    """What a publication adds to a table, and what it takes away; a file that was replaced at its path is in both."""

    add: tuple[str, ...]
    remove: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def table_name(dataset: str) -> str:
    """Return the table of a dataset; catalogues such as Glue allow no slash.

    >>> table_name("features/demand")
    'features_demand'
    """
    return dataset.replace("/", "_").replace("-", "_")


def open_tables(lake: Lake) -> Iterator[OpenTable]:
    """Yield the tables of a lake as it is now: one per dataset, and one per training snapshot."""
    now = lake.frozen()
    for dataset in (*DATASETS, *map(feature_dataset, now.features.stored)):
        columns = now.open(dataset, now.files(dataset)).schema
        # A file below `tables/` is replaced at its path, so the rows that its commit tells may be others by now.
        files = {f.path: None if f.path.startswith(TABLES) else f.rows for f in now.files(dataset) if f.rows}
        yield OpenTable(table_name(dataset), columns, files)
    filesystem, root = lake.objects.arrow()
    for key in lake.objects.list(SNAPSHOTS):
        folder, _, name = key.rpartition("/")
        if name == "manifest.json":
            try:
                manifest = lake.get_json(key)
                rows = snapshot_rows(folder, int(str(manifest.get("revision", 0))))
                columns = pq.read_schema(f"{root}/{rows}", filesystem=filesystem)
            except (ObjectMissing, FileNotFoundError):
                continue  # it is being revised or deleted at this moment
            except ValueError as error:
                raise CorruptData(f"{lake.root}/{key}: {error}") from None
            yield OpenTable(
                table_name(f"snapshot_{folder.removeprefix(SNAPSHOTS)}"), columns.remove_metadata(), {rows: None}
            )


def change(wanted: Iterable[str], present: Iterable[str], replaced: Iterable[str]) -> TableChange:
    """Return what leads from the present files of a table to the wanted ones; of those, `replaced` hold other rows now.

    >>> change({"b", "c", "d"}, {"a", "b", "c"}, {"c"})
    TableChange(add=('c', 'd'), remove=('a', 'c'))
    """
    want, have = set(wanted), set(present)
    again = want & have & set(replaced)
    return TableChange(tuple(sorted((want - have) | again)), tuple(sorted((have - want) | again)))
