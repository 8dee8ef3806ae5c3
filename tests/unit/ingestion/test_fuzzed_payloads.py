"""Every payload gets a verdict, whatever its bytes, and the counts add up, through the stream's own micro-batches."""

from collections import Counter

import pytest

from ingestion.kinesis_shards import Record
from stillpoint.clock import to_micros
from stillpoint.lake.tables import Lake
from tests.support.batch_world import Parts, World
from tests.support.fuzzed_payloads import Fuzz
from tests.support.wellness import FEATURES

PER_BATCH = 1_500


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_each_payload_is_accepted_or_kept_aside_and_none_stops_the_stream(tmp_path, redis_server, unique, count):
    world = World(tmp_path, redis_server, unique)
    processor = world.processor()
    arrived = to_micros(world.now)
    sent = {}
    for number, start in enumerate(range(0, count, PER_BATCH)):
        pairs = Fuzz(number, world.now).pairs(min(PER_BATCH, count - start))
        records = [
            Record("s0", str(start + index), user, arrived + start + index, data)
            for index, (user, data) in enumerate(pairs)
        ]
        sent |= {record.sequence: record for record in records}
        processor.process(Parts(records, 2), number)
    verdicts = sum((report.verdicts for report in world.reports), Counter())
    assert verdicts.total() == len(sent) == count
    lake = Lake(world.lake.objects, FEATURES)
    stored = lake.read("events", columns=["sequence", "user_id", "verdict"]).to_pylist()
    aside = lake.read("quarantine", columns=["sequence", "partition_key", "payload", "reason"]).to_pylist()
    assert sorted(int(row["sequence"]) for row in [*stored, *aside]) == list(range(count))
    assert Counter(row["verdict"] for row in stored) + Counter(quarantined=len(aside)) == verdicts
    for row in aside:
        record = sent[row["sequence"]]
        assert (row["payload"], row["partition_key"]) == (record.data, record.partition_key)
        assert row["reason"]
    assert not [row["reason"] for row in aside if row["reason"].startswith("computation failed")]
    assert min(verdicts[name] for name in ("on_time", "late", "duplicate", "quarantined")) > count * 0.005
