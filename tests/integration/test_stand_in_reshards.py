"""The AWS stand-in reshards as Kinesis does: nothing is lost, closed shards are read to their end, children follow."""

import time

import pytest
from botocore.exceptions import ClientError

from ingestion.kinesis_shards import ShardReader
from stillpoint.clock import system_clock

COUNT = 144


@pytest.fixture
def kinesis(aws):
    return aws.client("kinesis")


@pytest.fixture
def stream(kinesis, unique):
    kinesis.create_stream(StreamName=unique, ShardCount=2)
    yield unique
    kinesis.delete_stream(StreamName=unique)


def put(kinesis, stream, numbers):
    kinesis.put_records(
        StreamName=stream, Records=[{"Data": b"%d" % one, "PartitionKey": f"k{one % 24}"} for one in numbers]
    )


def shards(kinesis, stream):
    return {one["ShardId"]: one for one in kinesis.list_shards(StreamName=stream)["Shards"]}


def still_open(kinesis, stream):
    found = shards(kinesis, stream)
    return sorted(name for name, one in found.items() if "EndingSequenceNumber" not in one["SequenceNumberRange"])


def split(kinesis, stream):
    first = shards(kinesis, stream)[still_open(kinesis, stream)[0]]
    low, high = (int(first["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
    kinesis.split_shard(StreamName=stream, ShardToSplit=first["ShardId"], NewStartingHashKey=str((low + high) // 2))


def merge(kinesis, stream):
    one, other = still_open(kinesis, stream)[:2]
    kinesis.merge_shards(StreamName=stream, ShardToMerge=one, AdjacentShardToMerge=other)


def double(kinesis, stream):
    kinesis.update_shard_count(StreamName=stream, TargetShardCount=4, ScalingType="UNIFORM_SCALING")


@pytest.mark.parametrize(("reshard", "count"), [(split, 3), (merge, 1), (double, 4)])
@pytest.mark.parametrize("read_before", [0, 30])
def test_records_written_before_a_reshard_are_read_after_it_once_and_in_order(
    kinesis, stream, reshard, count, read_before
):
    put(kinesis, stream, range(COUNT // 2))
    reader = ShardReader(kinesis, stream)
    positions = reader.initial("TRIM_HORIZON", now=system_clock())
    records, positions = reader.read(positions, read_before or 2)
    reshard(kinesis, stream)
    assert len(still_open(kinesis, stream)) == count
    summary = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == count
    put(kinesis, stream, range(COUNT // 2, COUNT))
    deadline = time.monotonic() + 30
    while len(records) < COUNT and time.monotonic() < deadline:
        more, positions = reader.read(positions, 1_000)
        records += more
    assert sorted(int(one.data) for one in records) == list(range(COUNT))
    for key in {one.partition_key for one in records}:
        own = [int(one.data) for one in records if one.partition_key == key]
        assert own == sorted(own)
    assert reader.lost == ()


def test_a_closed_shard_takes_no_records_and_is_not_split_again(kinesis, stream):
    closed = still_open(kinesis, stream)[0]
    split(kinesis, stream)
    answers = kinesis.put_records(
        StreamName=stream, Records=[{"Data": b"x", "PartitionKey": f"k{one}"} for one in range(50)]
    )
    assert closed not in {one["ShardId"] for one in answers["Records"]}
    with pytest.raises(ClientError, match="closed"):
        kinesis.split_shard(StreamName=stream, ShardToSplit=closed, NewStartingHashKey=str(2**100))
    with pytest.raises(ClientError, match="more than double"):
        kinesis.update_shard_count(StreamName=stream, TargetShardCount=7, ScalingType="UNIFORM_SCALING")
