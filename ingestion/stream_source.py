"""Chooses Spark's source of events and maps its columns to ours. (pure, but for `read_stream`)

`STILLPOINT_STREAM_SOURCE` chooses. All three give the order of a shard, and each record of a committed micro-batch once:
what is done with a batch relies on that a replayed batch number brings the same records again, or that nothing of it had
been committed.

| | `stillpoint` (anywhere) | `kinesis` (Databricks) | `aws-kinesis` (EMR 7.1+, or its jar elsewhere) |
| --- | --- | --- | --- |
| a replayed batch | the same records, by the offsets of the checkpoint | the same, by those of the checkpoint | the same, by a note of the executors per shard, written before the shuffle and so before any effect |
| a reshard | a parent is read to its end before its children: the order of a user holds | Databricks promises no order between parent and child | a shard that is listed as closed is not read further: reshard only while nobody sends and nothing is waiting |
| records in a batch | at most `STILLPOINT_STREAM_MAX_RECORDS_PER_BATCH` | what was prefetched: a buffer of about that many, no strict bound | that many, shared by `STILLPOINT_EVENT_SHARDS`; after a split, as much more |
| lag metric | per shard | the greatest, as shard `all` | none: watch `stillpoint_freshness_seconds` and CloudWatch's `IteratorAgeMilliseconds` |
| freshness | as soon as possible | prefetched for a second at a time | a batch waits about five seconds for more before it ends |

Where order is lost, nothing else is: an event that overtakes an older one of its user makes it late only beyond the
allowed ten minutes. Rebuilding the state and backfills read the lake alone and know no source. A checkpoint belongs to
the source that began it. None of the sources may be fed aggregated (KPL) records: they would share a sequence number.

Options: docs.databricks.com "Connect to Amazon Kinesis"; github.com/awslabs/spark-sql-kinesis-connector, README.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ingestion.kinesis_shards import Record
from ingestion.kinesis_source import FORMAT
from stillpoint.errors import InvalidInput, InvalidSettings
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_RECORD_BYTES = 2_048
_RECORDS_PER_FETCH = 10_000
_NATIVE_COLUMNS = {
    "shard": "shardId",
    "sequence": "sequenceNumber",
    "partition_key": "partitionKey",
    "arrived_us": "unix_micros(approximateArrivalTimestamp)",
    "data": "data",
}
_NEEDED = ("sequenceNumber", "partitionKey", "approximateArrivalTimestamp", "data")
_CONNECTOR = {
    "kinesis": "it is part of Databricks's runtime and of nothing else",
    "aws-kinesis": "EMR has it from release 7.1 on; elsewhere give Spark the jar of awslabs/spark-sql-kinesis-connector "
    "(spark.jars) that fits its version",
}


class SourceUnusable(InvalidSettings):
    """The source that the settings name is not installed, or another one is registered under its name. Retrying does not help."""


@dataclass(frozen=True, slots=True)
class StreamSource:
    """What `readStream` is given. `options` may hold credentials."""

    format: str
    options: Mapping[str, str]


def stream_source(
    settings: Settings, *, start: str, client: Mapping[str, str], query: str, lag_file: str
) -> StreamSource:
    """Return the source of the settings. `client` holds boto3's arguments for Kinesis, `start` is where a new query begins.

    Raises:
        InvalidInput: `start` is neither TRIM_HORIZON, LATEST nor an ISO time with an offset.
    """
    moment = _moment(start)
    if settings.stream_source != "stillpoint" and "aws_session_token" in client:
        raise SourceUnusable(
            f"STILLPOINT_STREAM_SOURCE is {settings.stream_source}, which takes no session token; unset the AWS keys in the "
            "settings, so that the platform's own role is used"
        )
    if settings.stream_source == "kinesis":
        return StreamSource("kinesis", _databricks(settings, start, moment, client))
    if settings.stream_source == "aws-kinesis":
        return StreamSource("aws-kinesis", _emr(settings, start, moment, client, query))
    options = {
        "stream": settings.event_stream,
        "client": json.dumps(dict(client)),
        "start": start,
        "limit": str(settings.stream_max_records_per_batch),
        "lag_file": lag_file,
    }
    return StreamSource(FORMAT, options)


def our_columns(source_format: str, available: Collection[str]) -> dict[str, str]:
    """Return Spark's expression for each column of a `Record`, given the columns that the source has.

    A source that does not give the shard leaves it null: `kinesis_shards.shard_of` reads it from the sequence number.

    Raises:
        SourceUnusable: columns are missing: another connector is registered under this name.
    """
    if source_format == FORMAT:
        return {name: name for name in Record._fields}
    absent = [name for name in _NEEDED if name not in available]
    if absent:
        raise SourceUnusable(
            f"Spark's source {source_format} has the columns {', '.join(sorted(available))}; expected also "
            f"{', '.join(absent)}: another connector has this name; {_CONNECTOR[source_format]}, or set "
            "STILLPOINT_STREAM_SOURCE=stillpoint"
        )
    shard = _NATIVE_COLUMNS["shard"] if _NATIVE_COLUMNS["shard"] in available else "cast(null as string)"
    return _NATIVE_COLUMNS | {"shard": shard}


def read_stream(session: "SparkSession", source: StreamSource) -> "DataFrame":
    """Return the stream of `Record`s.

    Raises:
        SourceUnusable: Spark does not have the source, or another one under its name.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        frame = session.readStream.format(source.format).options(**source.options).load()
    except (Py4JJavaError, PySparkException) as error:
        if "DATA_SOURCE_NOT_FOUND" not in str(error):
            raise
        raise SourceUnusable(
            f"STILLPOINT_STREAM_SOURCE is {source.format}, and Spark {session.version} has no such source: "
            f"{_CONNECTOR.get(source.format, 'it was not registered')}; or set STILLPOINT_STREAM_SOURCE=stillpoint"
        ) from None
    columns = our_columns(source.format, frame.columns)
    return frame.selectExpr(*(f"{expression} as {name}" for name, expression in columns.items()))


def native_lag(progress: Any) -> dict[str, float]:
    """Return how many seconds reading is behind, from a native source's metrics in Spark's progress; empty if it reports none."""
    lags = [
        float(source["metrics"]["maxMsBehindLatest"]) / 1_000
        for source in (progress or {}).get("sources", ())
        if (source.get("metrics") or {}).get("maxMsBehindLatest") is not None
    ]
    return {"all": max(lags)} if lags else {}


def _databricks(settings: Settings, start: str, moment: datetime | None, client: Mapping[str, str]) -> dict[str, str]:
    limit = settings.stream_max_records_per_batch
    position = start.lower()
    if moment is not None:
        position = json.dumps({"at_timestamp": f"{moment:%m/%d/%Y %H:%M:%S} UTC", "format": "MM/dd/yyyy HH:mm:ss ZZZ"})
    options = {
        "streamName": settings.event_stream,
        "region": client["region_name"],
        "initialPosition": position,
        "maxRecordsPerFetch": str(min(_RECORDS_PER_FETCH, limit)),
        "maxFetchDuration": "1s",
        "fetchBufferSize": f"{max(1, limit * _RECORD_BYTES // 2**20)}mb",
    }
    renamed = {
        "endpoint_url": "endpoint",
        "aws_access_key_id": "awsAccessKey",
        "aws_secret_access_key": "awsSecretKey",
    }
    return options | {theirs: client[ours] for ours, theirs in renamed.items() if ours in client}


def _emr(
    settings: Settings, start: str, moment: datetime | None, client: Mapping[str, str], query: str
) -> dict[str, str]:
    region = client["region_name"]
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    options = {
        "kinesis.streamName": settings.event_stream,
        "kinesis.consumerType": "GetRecords",
        "kinesis.endpointUrl": client.get("endpoint_url", f"https://kinesis.{region}.{domain}"),
        "kinesis.region": region,
        "kinesis.kinesisRegion": region,
        "kinesis.startingPosition": start if moment is None else f"AT_TIMESTAMP {moment:%Y-%m-%dT%H:%M:%SZ}",
        "kinesis.maxFetchRecordsPerShard": str(max(1, settings.stream_max_records_per_batch // settings.event_shards)),
        "kinesis.failOnDataLoss": "true",
    }
    if settings.lake.startswith("s3://"):  # executors write these notes, and share no disk with the driver
        options["kinesis.metadataPath"] = f"{settings.lake.rstrip('/')}/stream/source/{query}"
    renamed = {"aws_access_key_id": "kinesis.awsAccessKeyId", "aws_secret_access_key": "kinesis.awsSecretKey"}
    return options | {theirs: client[ours] for ours, theirs in renamed.items() if ours in client}


def _moment(start: str) -> datetime | None:
    """Return the moment that a start gives, in UTC; None for TRIM_HORIZON and LATEST."""
    if start in ("TRIM_HORIZON", "LATEST"):
        return None
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInput(
            f"--start {start!r}: expected TRIM_HORIZON, LATEST or an ISO time with its offset, like 2026-03-01T00:00:00Z"
        )
    return moment.astimezone(UTC)
