"""Behind Sentinels a primary that dies is replaced, and writes wait for the new one."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from stillpoint.local.process import Child, free_port, port_answers
from stillpoint.local.redis_server import RedisServer, find_redis
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.connection import connect, parse_connection_string
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.shards import refuse_eviction
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.stores.values.types import ValueType
from tests.support.redis_cluster import until

LAYOUT = ViewLayout("v", (Column("user_id", ValueType.STRING),), (Column("n", ValueType.INT64),))
AT_US = 10**15


def test_a_connection_string_names_the_primary_of_its_sentinels() -> None:
    address = parse_connection_string("10.0.0.1:26379,10.0.0.2:26379,sentinel=main,db=1")
    assert (address.sentinel, address.options, len(address.nodes)) == ("main", {"db": 1}, 2)
    assert parse_connection_string("10.0.0.1:6379,db=1").sentinel is None


def test_writes_wait_for_the_replica_that_the_sentinels_promote(redis_factory: Any, tmp_path: Path) -> None:
    primary: RedisServer = redis_factory()
    replica: RedisServer = redis_factory()
    replica.client().replicaof("127.0.0.1", primary.port)
    until(lambda: replica.client().info("replication")["master_link_status"] == "up", "no replication", seconds=30)
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 800\nsentinel failover-timeout main 4000\n"
    )
    command = [str(find_redis().path), str(config), "--sentinel"]
    sentinel = Child("Sentinel", command, log=tmp_path / "sentinel.log")
    try:
        sentinel.wait_until(lambda: port_answers(port), seconds=15)
        client = connect(f"127.0.0.1:{port},sentinel=main,db=0")
        writer = OnlineWriter(client, "p")
        assert len(refuse_eviction(client, "features")) == 1

        def write(number: int) -> int:
            stamp = pa.array([AT_US + number], pa.timestamp("us", tz="UTC"))
            return writer.write(LAYOUT, pa.table({"user_id": ["u"], "event_timestamp": stamp, "n": [number]})).written

        assert write(1) == 1
        asked = connect(f"127.0.0.1:{port}").execute_command
        until(lambda: len(asked("SENTINEL REPLICAS", "main")) == 1, "the Sentinel knows no replica", seconds=30)
        until(lambda: replica.client().dbsize() == 1, "the replica has not the row")
        primary.kill()
        began = time.monotonic()
        assert write(2) == 1
        assert time.monotonic() - began < 30
        answer = OnlineReader(client, ReadPlan("p", (LAYOUT,))).read(["v"], {"user_id": ["u"]}, now_us=AT_US)
        assert answer.values("n") == [2]
    finally:
        sentinel.stop()
