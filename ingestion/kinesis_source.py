"""A Spark streaming source for Kinesis, in Python.

A Spark data source in Python over boto3. Kinesis has no call for its latest sequence number, so the driver reads the records of a batch
to learn where it ends: each record is fetched once. The offsets are positions per shard; a batch that is replayed
reads exactly the same records again.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.types import StructType

from ingestion.kinesis_shards import LostShard, Record, ShardReader
from stillpoint.clock import system_clock
from stillpoint.lake.files import write_whole

FORMAT = "stillpoint_kinesis"
SCHEMA = "shard string, sequence string, partition_key string, arrived_us long, data binary"


class KinesisSource(DataSource):
    """`spark.readStream.format("stillpoint_kinesis")`; options: stream, client (JSON for boto3), start, limit, lag_file."""

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def schema(self) -> str:
        return SCHEMA

    def simpleStreamReader(self, schema: StructType) -> "KinesisStreamReader":  # noqa: N802
        return KinesisStreamReader(dict(self.options))


class KinesisStreamReader(SimpleDataSourceStreamReader):
    """Reads with the options of `KinesisSource`; lives in a process of its own on the driver."""

    def __init__(self, options: dict[str, str]) -> None:
        self._options = options
        self._shards: ShardReader | None = None

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802
        return self._reader().initial(self._options.get("start", "TRIM_HORIZON"), now=system_clock())

    def read(self, start: dict[str, Any]) -> tuple[Iterator[tuple[Any, ...]], dict[str, Any]]:
        reader = self._reader()
        records, end = reader.read(start, int(self._options.get("limit", "20000")))
        self._tell(reader)
        return iter(_rows(records)), end

    def readBetweenOffsets(self, start: dict[str, Any], end: dict[str, Any]) -> Iterator[tuple[Any, ...]]:  # noqa: N802
        return iter(_rows(list(self._reader().between(start, end))))

    def _reader(self) -> ShardReader:
        if self._shards is None:
            import boto3

            client = boto3.client("kinesis", **json.loads(self._options["client"]))
            self._shards = ShardReader(client, self._options["stream"])
        return self._shards

    def _tell(self, reader: ShardReader) -> None:
        """Write the lag and the lost shards to files, from which the process that serves metrics reads them."""
        path = self._options.get("lag_file")
        if path:
            with open(path, "w") as file:
                json.dump(dict(reader.lag_seconds), file)
            if reader.lost:
                remember_lost(lost_file(Path(path)), reader.lost)


def lost_file(lag_file: Path) -> Path:
    """Return the path of the file that lists lost shards, beside the lag file. It outlives a run and may be deleted at any time."""
    return lag_file.with_name("lost_shards.json")


def remember_lost(path: Path, lost: Iterable[LostShard]) -> None:
    """Add lost shards to those that the file names."""
    known = read_lost(path)
    merged = known | {one.shard: one.after for one in lost}
    if merged != known:
        write_whole(path, json.dumps(merged))


def read_lost(path: Path) -> dict[str, str]:
    """Return the lost shards that a file lists, each with the last sequence number read; None if there is no such file."""
    try:
        return {str(shard): str(after) for shard, after in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}


def _rows(records: list[Record]) -> list[tuple[Any, ...]]:
    return [tuple(record) for record in records]
