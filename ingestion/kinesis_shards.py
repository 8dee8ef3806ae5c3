"""Reads the shards of a Kinesis stream, each record once and in order, within the service's limits.

A `Position` says up to where a shard has been read. A closed shard is read to its end before its children begin, so the
order of one partition key survives a reshard. Kinesis allows five GetRecords calls and 2 MB a second and shard; calls are
paced so that a single reader stays below both limits; beside other readers it backs off when Kinesis refuses a call.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from stillpoint.clock import to_micros
from stillpoint.errors import CorruptData, StackUnavailable

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

SECONDS_BETWEEN_CALLS = 0.2
BYTES_A_SECOND = 2_000_000
QUIET_SECONDS_BETWEEN_CALLS = 0.5
QUIET_AFTER_SECONDS = 10.0
"""After this long without a record in any shard, shards are polled less often; the next record waits at most 0.3 s longer."""
RECORDS_PER_CALL = 10_000
_TRIES = 6

Positions = dict[str, dict[str, Any]]
"""Shard id → one of `{"start": "TRIM_HORIZON"}`, `{"at": seconds}`, `{"after": sequence}`, with `"closed": True` at the end."""


class Record(NamedTuple):
    """One Kinesis record. `arrived_us` is the approximate arrival time in microseconds."""

    shard: str
    sequence: str
    partition_key: str
    arrived_us: int
    data: bytes


@dataclass(slots=True)
class _Cursor:
    """The iterator for a shard's next call; valid only for the position that it was made for."""

    position: dict[str, Any]
    iterator: str


class LostShard(NamedTuple):
    """A shard that disappeared before it was read to its end. Records after the sequence number `after`, if any, were not read."""

    shard: str
    after: str


class ShardReader:
    """Reads one stream. Not safe for use by several threads; reads its shards in threads of its own."""

    def __init__(self, client: "KinesisClient", stream: str) -> None:
        self._client = client
        self._stream = stream
        self._cursors: dict[str, _Cursor] = {}
        self._lag_ms: dict[str, int] = {}
        self._free_at: dict[str, float] = {}
        self._lost: dict[str, LostShard] = {}
        self._heard_at = time.monotonic()

    @property
    def lost(self) -> tuple[LostShard, ...]:
        """The shards that went away before this reader had seen their end."""
        return tuple(self._lost.values())

    @property
    def lag_seconds(self) -> Mapping[str, float]:
        """Seconds by which reading is behind each shard's newest record, as of the last call (Kinesis's `MillisBehindLatest`)."""
        return {shard: milliseconds / 1_000 for shard, milliseconds in self._lag_ms.items()}

    def initial(self, start: str, *, now: datetime) -> Positions:
        """Return the positions for `TRIM_HORIZON`, `LATEST` or an ISO time, UTC without a zone. LATEST means `now`, so that it
        can be resumed."""
        shards = self._list()
        if start == "TRIM_HORIZON":
            position: dict[str, Any] = {"start": "TRIM_HORIZON"}
        else:
            moment = now if start == "LATEST" else datetime.fromisoformat(start)
            position = {"at": (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()}
        present = {shard["ShardId"] for shard in shards}
        return {
            shard["ShardId"]: dict(position)
            for shard in shards
            if not any(parent in present for parent in _parents(shard))
        }

    def read(self, positions: Positions, limit: int) -> tuple[list[Record], Positions]:
        """Return about `limit` records at most after the positions, and the new positions; one GetRecords call per shard."""
        open_shards = [shard for shard, position in positions.items() if not position.get("closed")]
        if not open_shards:
            return [], self._with_children(positions)
        share = max(1, min(RECORDS_PER_CALL, limit // len(open_shards)))
        with ThreadPoolExecutor(min(16, len(open_shards))) as pool:
            results = list(pool.map(lambda shard: self._call(shard, positions[shard], share), open_shards))
        after = dict(positions)
        records: list[Record] = []
        for shard, (found, position) in zip(open_shards, results, strict=True):
            records += found
            after[shard] = position
        if any(after[shard].get("closed") for shard in open_shards):
            after = self._with_children(after)
        return records, after

    def between(self, start: Positions, end: Positions) -> Iterator[Record]:
        """Yield exactly the records between two positions, as they were read before: a replayed micro-batch needs the same ones.

        Raises:
            CorruptData: the retention of some of them has ended.
        """
        for shard, last in end.items():
            first = start.get(shard, {"start": "TRIM_HORIZON"})
            if first == last or first.get("closed") or "after" not in last:
                continue
            position = first
            while position.get("after") != last["after"]:
                found, position = self._call(shard, position, RECORDS_PER_CALL)
                for record in found:
                    if int(record.sequence) <= int(last["after"]):
                        yield record
                if found and int(found[-1].sequence) >= int(last["after"]):
                    break
                if position.get("closed") or (not found and not self._lag_ms.get(shard)):
                    raise CorruptData(
                        f"Kinesis shard {shard} of {self._stream} ends before {last['after']}, which a micro-batch had "
                        "read: its records have passed their retention; start over from a fresh checkpoint"
                    )

    def _call(self, shard: str, position: dict[str, Any], limit: int) -> tuple[list[Record], dict[str, Any]]:
        """Make one GetRecords call and return its records with the position after them."""
        for attempt in range(_TRIES):
            cursor = self._cursors.get(shard)
            if cursor is None or cursor.position != position:
                iterator = self._iterator(shard, position)
                if iterator is None:
                    self._lost[shard] = LostShard(shard, _said(position))
                    return [], {**position, "closed": True}
                cursor = _Cursor(position, iterator)
            time.sleep(max(0.0, self._free_at.get(shard, 0.0) - time.monotonic()))
            self._free_at[shard] = time.monotonic() + SECONDS_BETWEEN_CALLS
            try:
                answer = self._client.get_records(ShardIterator=cursor.iterator, Limit=limit)
            except (
                self._client.exceptions.ExpiredIteratorException,
                self._client.exceptions.ResourceNotFoundException,  # the shard passed its retention: asked again below
            ):
                self._cursors.pop(shard, None)
                continue
            except self._client.exceptions.ProvisionedThroughputExceededException:
                time.sleep(min(5.0, SECONDS_BETWEEN_CALLS * 2**attempt))
                continue
            return self._records(shard, position, answer)
        raise StackUnavailable(
            f"Kinesis shard {shard} of {self._stream} refused {_TRIES} calls in a row: its throughput is exceeded"
        )

    def _records(self, shard: str, position: dict[str, Any], answer: Any) -> tuple[list[Record], dict[str, Any]]:
        records = [
            Record(
                shard,
                r["SequenceNumber"],
                r["PartitionKey"],
                to_micros(r["ApproximateArrivalTimestamp"].astimezone(UTC)),
                r["Data"],
            )
            for r in answer["Records"]
        ]
        self._lag_ms[shard] = int(answer.get("MillisBehindLatest") or 0)
        size = sum(len(record.data) for record in records)
        self._free_at[shard] = max(self._free_at[shard], time.monotonic() + size / BYTES_A_SECOND)
        if records or self._lag_ms[shard]:
            self._heard_at = time.monotonic()
        elif time.monotonic() - self._heard_at >= QUIET_AFTER_SECONDS:
            self._free_at[shard] += QUIET_SECONDS_BETWEEN_CALLS - SECONDS_BETWEEN_CALLS
        after = {"after": records[-1].sequence} if records else dict(position)
        following = answer.get("NextShardIterator")
        if following is None:
            self._cursors.pop(shard, None)
            return records, {**after, "closed": True}
        self._cursors[shard] = _Cursor(after, following)
        return records, after

    def _iterator(self, shard: str, position: dict[str, Any]) -> str | None:
        """Return an iterator for a position, or None if the shard is gone: its records have passed their retention."""
        arguments: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if "after" in position:
            arguments = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": position["after"]}
        elif "at" in position:
            arguments = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": datetime.fromtimestamp(position["at"], UTC)}
        try:
            return self._client.get_shard_iterator(StreamName=self._stream, ShardId=shard, **arguments)["ShardIterator"]
        except self._client.exceptions.ResourceNotFoundException:
            if any(listed["ShardId"] == shard for listed in self._list()):
                raise
            return None

    def _with_children(self, positions: Positions) -> Positions:
        """Add the shards whose parents are all read to their end or gone; drop closed shards that no longer exist."""
        shards = {shard["ShardId"]: shard for shard in self._list()}
        result = {
            shard: position for shard, position in positions.items() if shard in shards or not position.get("closed")
        }
        for shard_id, shard in shards.items():
            if shard_id in positions:
                continue
            parents = [parent for parent in _parents(shard) if parent in shards]
            if all(positions.get(parent, {}).get("closed") for parent in parents):
                result[shard_id] = {"start": "TRIM_HORIZON"}
        return result

    def _list(self) -> list[Any]:
        shards: list[Any] = []
        token: dict[str, Any] = {"StreamName": self._stream}
        while True:
            try:
                answer = self._client.list_shards(**token)
            except self._client.exceptions.ResourceNotFoundException:
                raise StackUnavailable(
                    f"there is no Kinesis stream {self._stream}; run `stillpoint up`, or create it"
                ) from None
            shards += answer["Shards"]
            if not answer.get("NextToken"):
                return shards
            token = {"NextToken": answer["NextToken"]}


def shard_of(sequence: str) -> str:
    """Return the shard that a sequence number of AWS names, or `unknown` if it has another layout.

    Layout version 2, as in the Kinesis Client Library's `SequenceNumberValidator`: bits 184 to 187 hold the version, bits
    4 to 35 the shard.

    >>> shard_of("49590338271490256608559692538361571095921575989136588850")
    'shardId-000000000003'
    >>> shard_of("12345")
    'unknown'
    """
    number = int(sequence)
    if number >> 184 != 2:
        return "unknown"
    return f"shardId-{number >> 4 & 0xFFFF_FFFF:012d}"


def _said(position: dict[str, Any]) -> str:
    """Return a position in words, for messages."""
    if "after" in position:
        return f"sequence number {position['after']}"
    if "at" in position:
        return datetime.fromtimestamp(position["at"], UTC).isoformat()
    return "its beginning"


def _parents(shard: Any) -> list[str]:
    return [shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if shard.get(name)]
