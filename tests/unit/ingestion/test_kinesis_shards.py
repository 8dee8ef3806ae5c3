"""A stream's records are read once and in each key's order, through splits, merges, throttling and lost iterators."""

import random
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import kinesis_shards
from ingestion.kinesis_shards import LostShard, ShardReader
from ingestion.kinesis_source import KinesisStreamReader, lost_file, read_lost, remember_lost
from stillpoint.clock import system_clock
from stillpoint.errors import CorruptData, StackUnavailable

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


class Exceptions:
    class ExpiredIteratorException(Exception):
        pass

    class ProvisionedThroughputExceededException(Exception):
        pass

    class ResourceNotFoundException(Exception):
        pass


class Kinesis:
    """Kinesis in memory with AWS's rules: a split or merged shard stays, closed, until its records expire."""

    exceptions = Exceptions

    def __init__(self, shards=2):
        self.shards = {}
        self.iterators = {}
        self.count = 0
        self.trouble = lambda: None
        for number in range(shards):
            self._open((number, number + 1), shards, ())

    def _open(self, part, of, parents):
        name = f"shardId-{len(self.shards):012d}"
        self.shards[name] = {"records": [], "low": part[0] / of, "high": part[1] / of, "closed": False, "of": parents}
        return name

    def put(self, key, data):
        place = random.Random(key).random()
        shard = next(s for s in self.shards.values() if not s["closed"] and s["low"] <= place < s["high"])
        self.count += 1
        record = {"SequenceNumber": str(10**20 + self.count), "PartitionKey": key, "Data": data}
        shard["records"].append(record | {"ApproximateArrivalTimestamp": BEGIN + timedelta(seconds=self.count)})

    def split(self, name):
        shard = self.shards[name]
        shard["closed"] = True
        middle = (shard["low"] + shard["high"]) / 2
        self._open((shard["low"], middle), 1, (name,))
        self._open((middle, shard["high"]), 1, (name,))

    def merge(self, one, other):
        low, high = sorted((self.shards[one], self.shards[other]), key=lambda shard: shard["low"])
        low["closed"] = high["closed"] = True
        self._open((low["low"], high["high"]), 1, (one, other))

    def list_shards(self, **arguments):
        names = sorted(self.shards)
        start = names.index(arguments["NextToken"]) if "NextToken" in arguments else 0
        page = names[start : start + 2]
        listed = [
            {"ShardId": name}
            | dict(zip(("ParentShardId", "AdjacentParentShardId"), self.shards[name]["of"], strict=False))
            for name in page
        ]
        more = {"NextToken": names[start + 2]} if start + 2 < len(names) else {}
        return {"Shards": listed, **more}

    def get_shard_iterator(self, *, StreamName, ShardId, ShardIteratorType, **more):  # noqa: N803
        if ShardId not in self.shards:
            raise Exceptions.ResourceNotFoundException
        records = self.shards[ShardId]["records"]
        position = 0
        if ShardIteratorType == "AFTER_SEQUENCE_NUMBER":
            last = int(more["StartingSequenceNumber"])
            position = sum(int(record["SequenceNumber"]) <= last for record in records)
        if ShardIteratorType == "AT_TIMESTAMP":
            position = sum(record["ApproximateArrivalTimestamp"] < more["Timestamp"] for record in records)
        return {"ShardIterator": self._iterator(ShardId, position)}

    def _iterator(self, name, position):
        token = f"i{len(self.iterators)}"
        self.iterators[token] = (name, position)
        return token

    def get_records(self, *, ShardIterator, Limit):  # noqa: N803
        self.trouble()
        name, position = self.iterators[ShardIterator]
        if name not in self.shards:
            raise Exceptions.ResourceNotFoundException
        shard = self.shards[name]
        found = shard["records"][position : position + Limit]
        end = position + len(found)
        behind = 1_000 if end < len(shard["records"]) else 0
        closed = shard["closed"] and end == len(shard["records"])
        following = {} if closed else {"NextShardIterator": self._iterator(name, end)}
        return {"Records": found, "MillisBehindLatest": behind, **following}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(kinesis_shards.time, "sleep", lambda seconds: None)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "read", "split", "merge", "again"]), st.integers(0, 10**6)),
    min_size=5,
    max_size=40,
)


@given(steps=STEPS, limit=st.sampled_from([1, 3, 50]))
@settings(max_examples=150, deadline=None)
def test_each_record_is_read_once_in_its_keys_order_through_splits_and_merges(steps, limit):
    kinesis = Kinesis()
    reader = ShardReader(kinesis, "s")
    positions = reader.initial("TRIM_HORIZON", now=system_clock())
    spans, sent = [], 0

    def read():
        nonlocal positions
        records, after = reader.read(positions, limit)
        spans.append((positions, after, records))
        positions = after

    for step, number in steps:
        still_open = sorted(name for name, shard in kinesis.shards.items() if not shard["closed"])
        if step == "put":
            for _ in range(number % 7):
                kinesis.put(f"k{sent % 5}", b"%d" % sent)
                sent += 1
        elif step == "read":
            read()
        elif step == "split":
            kinesis.split(still_open[number % len(still_open)])
        elif step == "merge":
            by_place = sorted(still_open, key=lambda name: kinesis.shards[name]["low"])
            if len(by_place) > 1:
                kinesis.merge(*by_place[number % (len(by_place) - 1) :][:2])
        else:
            reader = ShardReader(kinesis, "s")
    for _ in range(4 * sent + 4 * len(kinesis.shards) + 4):
        read()
    found = [record for _, _, records in spans for record in records]
    assert sorted(int(record.data) for record in found) == list(range(sent))
    order = defaultdict(list)
    for record in found:
        order[record.partition_key].append(int(record.data))
    assert all(numbers == sorted(numbers) for numbers in order.values())
    for start, end, records in spans:
        assert sorted(ShardReader(kinesis, "s").between(start, end)) == sorted(records)


def test_lost_iterators_and_throttling_are_answered_by_asking_again():
    kinesis = Kinesis(shards=1)
    for number in range(6):
        kinesis.put("k", b"%d" % number)
    reader = ShardReader(kinesis, "s")
    troubles = [
        Exceptions.ExpiredIteratorException,
        Exceptions.ProvisionedThroughputExceededException,
        Exceptions.ProvisionedThroughputExceededException,
        None,
        Exceptions.ExpiredIteratorException,
    ]

    def trouble():
        error = troubles.pop(0) if troubles else None
        if error is not None:
            raise error

    kinesis.trouble = trouble
    positions, found = reader.initial("TRIM_HORIZON", now=system_clock()), []
    for _ in range(4):
        records, positions = reader.read(positions, 2)
        found += [int(record.data) for record in records]
    assert found == list(range(6))
    assert not troubles


def test_endless_throttling_is_said_in_words():
    kinesis = Kinesis(shards=1)

    def trouble():
        raise Exceptions.ProvisionedThroughputExceededException

    kinesis.trouble = trouble
    reader = ShardReader(kinesis, "s")
    with pytest.raises(StackUnavailable, match=r"shard shardId-0+ of s refused 6 calls in a row"):
        reader.read(reader.initial("TRIM_HORIZON", now=system_clock()), 10)


def test_a_span_whose_records_have_expired_is_refused_and_not_replayed_in_part():
    kinesis = Kinesis(shards=1)
    for number in range(4):
        kinesis.put("k", b"%d" % number)
    start = ShardReader(kinesis, "s").initial("TRIM_HORIZON", now=system_clock())
    _, end = ShardReader(kinesis, "s").read(start, 100)
    next(iter(kinesis.shards.values()))["records"].clear()
    with pytest.raises(CorruptData, match="passed their retention"):
        list(ShardReader(kinesis, "s").between(start, end))


def test_a_new_query_can_begin_at_a_time():
    kinesis = Kinesis(shards=1)
    for number in range(6):
        kinesis.put("k", b"%d" % number)
    reader = ShardReader(kinesis, "s")
    records, _ = reader.read(reader.initial((BEGIN + timedelta(seconds=4)).isoformat(), now=system_clock()), 100)
    assert [int(record.data) for record in records] == [3, 4, 5]


def test_a_shard_that_is_gone_counts_as_read_and_its_children_follow():
    kinesis = Kinesis(shards=1)
    kinesis.put("k", b"0")
    reader = ShardReader(kinesis, "s")
    positions = reader.initial("TRIM_HORIZON", now=system_clock())
    found = []
    for turn in range(6):
        records, positions = reader.read(positions, 10)
        found += [int(record.data) for record in records]
        if turn == 1:
            kinesis.split("shardId-000000000000")
            del kinesis.shards["shardId-000000000000"]
            kinesis.put("k", b"1")
    assert found == [0, 1]


def test_a_shard_that_went_before_its_end_was_seen_is_told_of_once_with_what_was_read_last():
    kinesis = Kinesis(shards=2)
    for number in range(8):
        kinesis.put(f"k{number}", b"%d" % number)
    reader = ShardReader(kinesis, "s")
    _, positions = reader.read(reader.initial("TRIM_HORIZON", now=system_clock()), 100)
    assert reader.lost == ()
    gone = "shardId-000000000000"
    last = positions[gone]["after"]
    kinesis.split(gone)
    del kinesis.shards[gone]
    for _ in range(3):
        _, positions = reader.read(positions, 100)
    assert reader.lost == (LostShard(gone, f"sequence number {last}"),)
    kinesis.split("shardId-000000000001")
    for _ in range(4):
        _, positions = reader.read(positions, 100)
    del kinesis.shards["shardId-000000000001"]  # it had been read to its end
    for _ in range(3):
        _, positions = reader.read(positions, 100)
    assert len(reader.lost) == 1


def test_lost_shards_are_kept_in_a_file_that_only_grows(tmp_path):
    path = lost_file(tmp_path / "lag.json")
    assert read_lost(path) == {}
    remember_lost(path, [LostShard("shardId-1", "its beginning")])
    remember_lost(path, [LostShard("shardId-2", "sequence number 5"), LostShard("shardId-1", "its beginning")])
    assert read_lost(path) == {"shardId-1": "its beginning", "shardId-2": "sequence number 5"}


def test_the_source_leaves_lag_and_lost_shards_for_the_process_that_serves_metrics(tmp_path):
    kinesis = Kinesis(shards=1)
    kinesis.put("k", b"0")
    reader = KinesisStreamReader({"stream": "s", "client": "{}", "lag_file": str(tmp_path / "lag.json")})
    reader._shards = ShardReader(kinesis, "s")
    _, positions = reader.read(reader.initialOffset())
    assert not (tmp_path / "lost_shards.json").exists()
    kinesis.split("shardId-000000000000")
    del kinesis.shards["shardId-000000000000"]
    reader.read(positions)
    assert list(read_lost(tmp_path / "lost_shards.json")) == ["shardId-000000000000"]


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 1_000.0
        self.lock = threading.Lock()

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        with self.lock:
            self.now += seconds


def test_a_quiet_stream_is_asked_less_often_and_a_record_brings_the_old_pace_back(monkeypatch):
    clock = Time()
    monkeypatch.setattr(kinesis_shards, "time", clock)
    kinesis = Kinesis(shards=1)
    reader = ShardReader(kinesis, "events")
    positions = reader.initial("TRIM_HORIZON", now=system_clock())

    def seconds(reads):
        nonlocal positions
        before = clock.now
        for _ in range(reads):
            _, positions = reader.read(positions, 1_000)
        return clock.now - before

    assert seconds(40) == pytest.approx(40 * 0.2, abs=0.2), "a pause of eight seconds is no quiet"
    seconds(30)
    assert seconds(10) == pytest.approx(10 * 0.5)
    kinesis.put("u1", b"event")
    before = clock.now
    records, positions = reader.read(positions, 1_000)
    assert ([record.data for record in records], clock.now - before) == ([b"event"], pytest.approx(0.5))
    seconds(1)
    assert seconds(40) == pytest.approx(40 * 0.2, abs=0.2)
