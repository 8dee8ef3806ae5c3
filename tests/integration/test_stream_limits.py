"""Reading keeps within Kinesis's limits, with each record read once, when there is a backlog and the shards change."""

import threading
from collections import defaultdict

import boto3
import pytest

from ingestion.kinesis_shards import ShardReader
from stillpoint.clock import system_clock
from stillpoint.events.stream import put_events
from stillpoint.local.provision import provision
from tests.support.fault_proxy import BYTES_A_SECOND, CALLS_A_SECOND, FaultProxy

RECORD = 20_000
FIRST_SHARD = "shardId-000000000000"


@pytest.fixture
def proxy(aws):
    proxy = FaultProxy(aws.endpoint_url)
    yield proxy
    proxy.stop()


class Reading:
    """Reads a stream through the proxy as the source does, batch by batch."""

    def __init__(self, settings, proxy, limit):
        arguments = settings.aws_client_arguments() | {"endpoint_url": proxy.endpoint_url}
        self.limit, self.batches, self.found = limit, [], []
        self._reader = ShardReader(boto3.client("kinesis", **arguments), settings.event_stream)
        self.positions = self._reader.initial("TRIM_HORIZON", now=system_clock())

    def until(self, count):
        while len(self.found) < count:
            records, self.positions = self._reader.read(self.positions, self.limit)
            self.batches.append(len(records))
            self.found += records


def put(settings, aws, numbers):
    pairs = [(f"user-{number % 11}", b"%012d" % number + bytes(RECORD - 12)) for number in numbers]
    put_events(aws.client("kinesis"), settings.event_stream, pairs)


def numbers_in_order(found):
    """Return all numbers that were read, and assert that each user's came in their order."""
    users = defaultdict(list)
    for record in found:
        users[record.partition_key].append(int(record.data[:12]))
    assert all(numbers == sorted(numbers) for numbers in users.values())
    return sorted(number for numbers in users.values() for number in numbers)


@pytest.mark.parametrize("count", [200, pytest.param(1_500, marks=pytest.mark.soak)])
def test_a_backlog_of_megabytes_and_a_reshard_are_read_once_within_the_limits(settings, aws, proxy, count):
    provision(settings)
    first = count * 2 // 3
    put(settings, aws, range(first))
    reading = Reading(settings, proxy, limit=40)
    reading.until(first)
    kinesis = aws.client("kinesis")
    kinesis.split_shard(StreamName=settings.event_stream, ShardToSplit=FIRST_SHARD, NewStartingHashKey=str(2**126))
    put(settings, aws, range(first, count))
    reading.until(count)
    assert numbers_in_order(reading.found) == list(range(count))
    assert max(reading.batches) <= reading.limit
    assert len({record.shard for record in reading.found}) >= 3
    calls = sum(len(answers) for answers in proxy.answered.values())
    assert proxy.throttled <= calls * 0.1
    for shard in proxy.answered:
        assert proxy.most_in_a_second(shard) <= CALLS_A_SECOND + 1
        assert proxy.bytes_a_second(shard) <= BYTES_A_SECOND


@pytest.mark.soak
def test_two_readers_of_one_stream_share_its_limits_and_each_reads_all(settings, aws, proxy):
    provision(settings)
    put(settings, aws, range(600))
    readings = [Reading(settings, proxy, limit=40) for _ in range(2)]
    threads = [threading.Thread(target=reading.until, args=(600,)) for reading in readings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.throttled
    for reading in readings:
        assert numbers_in_order(reading.found) == list(range(600))
    for shard in proxy.answered:
        assert proxy.bytes_a_second(shard) <= BYTES_A_SECOND
