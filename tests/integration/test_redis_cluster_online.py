"""Does everything hold on a real Redis Cluster of three nodes, while slots move too?"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import redis
from redis.crc import key_slot

from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import AsyncOnlineReader, OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect, connect_async
from stillpoint.stores.redis.deletion import delete_project
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter, WriteResult, encode_rows
from stillpoint.stores.values.types import ValueType

LAYOUT = ViewLayout("v", (Column("user_id", ValueType.STRING),), (Column("n", ValueType.INT64),))
PLAN = ReadPlan("p", (LAYOUT,))
WIDE = ViewLayout("wide", LAYOUT.join_keys, tuple(Column(f"w{n}", ValueType.INT64) for n in range(60)))
USERS = [f"u{n}" for n in range(500)]


def table(event_us: int, value: int) -> Any:
    stamp = pa.timestamp("us", tz="UTC")
    return pa.table(
        {"user_id": USERS, "event_timestamp": pa.array([event_us] * len(USERS), stamp), "n": [value] * len(USERS)}
    )


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    options = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
    servers = [RedisServer(tmp_path_factory.mktemp("node"), options=options) for _ in range(3)]
    clients = [redis.Redis(port=server.port) for server in servers]
    for number, client in enumerate(clients):
        client.execute_command("CLUSTER", "ADDSLOTS", *range(number * 5462, min((number + 1) * 5462, 16384)))
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for server in servers[1:]:
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
    end = time.monotonic() + 30
    while any(b"cluster_state:ok" not in raw_info(client) or known(client) < 3 for client in clients):
        assert time.monotonic() < end, "the cluster did not form"
        time.sleep(0.1)
    yield servers
    for server in servers:
        server.stop()


def raw_info(client: Any) -> bytes:
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("CLUSTER", "INFO")
        return bytes(connection.read_response(disable_decoding=True))
    finally:
        client.connection_pool.release(connection)


def known(client: Any) -> int:
    return len(client.execute_command("CLUSTER", "NODES"))


def address(nodes: list[RedisServer]) -> str:
    return ",".join(f"127.0.0.1:{server.port}" for server in nodes)


def test_rows_reach_their_slots_in_order_and_are_read_back(nodes: list[RedisServer]) -> None:
    client = connect(address(nodes))
    writer = OnlineWriter(client, "p")
    assert writer.write(LAYOUT, table(10**15, 1)) == WriteResult(500, 0)
    assert writer.write(LAYOUT, table(10**15 - 1, 9)) == WriteResult(0, 500)
    assert writer.write(LAYOUT, table(10**15 + 1, 2)) == WriteResult(500, 0)
    assert all(redis.Redis(port=server.port).dbsize() > 100 for server in nodes)
    answer = OnlineReader(client, PLAN).read(["v"], {"user_id": [*USERS, "nobody"]}, now_us=10**15)
    assert answer.values("n") == [2] * 500 + [None]
    client.close()


def test_asyncio_writes_and_reads(nodes: list[RedisServer]) -> None:
    async def act() -> list[int]:
        client = connect_async(address(nodes))
        await OnlineWriter(client, "q").write_encoded_async(LAYOUT, encode_rows(LAYOUT, table(5, 3), "q"))
        answer = await AsyncOnlineReader(client, ReadPlan("q", (LAYOUT,))).read(
            ["v"], {"user_id": USERS}, now_us=0, mode=Mode.COMPAT
        )
        await client.aclose()
        return answer.values("n")

    assert asyncio.run(act()) == [3] * 500


def test_a_slot_that_moved_is_followed(nodes: list[RedisServer]) -> None:
    client = connect(address(nodes))
    writer, reader = OnlineWriter(client, "p"), OnlineReader(client, PLAN)
    writer.write(LAYOUT, table(10**15 + 2, 4))
    moving = table(10**15, 4).slice(0, 1)
    for column in WIDE.features:
        moving = moving.append_column(column.name, pa.array([6]))
    writer.write(WIDE, moving)
    wide = OnlineReader(client, ReadPlan("p", (WIDE,)))

    def whole() -> set[Any]:
        return {
            wide.read(["wide"], {"user_id": USERS[:1]}, now_us=10**15).values(column.name)[0]
            for column in WIDE.features
        }

    assert whole() == whole() == {6}
    key = encode_keys(LAYOUT, table(0, 0), "p")[0]
    slot = key_slot(key)
    plain = [redis.Redis(port=server.port) for server in nodes]
    ids = [node.execute_command("CLUSTER", "MYID").decode() for node in plain]
    source = next(
        number for number, node in enumerate(plain) if node.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)
    )
    target = (source + 1) % 3
    plain[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    plain[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    for moved in plain[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        plain[source].execute_command("MIGRATE", "127.0.0.1", nodes[target].port, moved, 0, 2000)
    assert reader.read(["v"], {"user_id": USERS}, now_us=10**15).values("n") == [4] * 500  # ASK
    assert whole() == {6}
    for node in (plain[target], plain[source], plain[3 - source - target]):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    assert reader.read(["v"], {"user_id": USERS}, now_us=10**15).values("n") == [4] * 500  # MOVED
    assert writer.write(LAYOUT, table(10**15 + 3, 5)) == WriteResult(500, 0)
    assert reader.read(["v"], {"user_id": USERS}, now_us=10**15).values("n") == [5] * 500
    client.close()


def test_emptying_a_project_empties_every_node(nodes: list[RedisServer]) -> None:
    client = connect(address(nodes))
    OnlineWriter(client, "shadow_r").write(LAYOUT, table(10**15, 1))
    OnlineWriter(client, "r").write(LAYOUT, table(10**15, 1))
    assert delete_project(client, "r") == 500
    assert (
        OnlineReader(client, ReadPlan("shadow_r", (LAYOUT,))).read(["v"], {"user_id": USERS}, now_us=10**15).values("n")
        == [1] * 500
    )
    client.close()
