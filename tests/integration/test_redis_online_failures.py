"""What a caller learns when Redis is down, slow, full, read-only or holds corrupt bytes, and who wins when two write."""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from stillpoint.errors import CorruptData, InvalidSettings, StackUnavailable
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.reading.plan import ReadPlan, fill_marker_key
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect, parse_connection_string
from stillpoint.stores.redis.deletion import delete_project
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter, WriteResult
from stillpoint.stores.values.types import ValueType

LAYOUT = ViewLayout(
    "clicks",
    (Column("user_id", ValueType.STRING),),
    (Column("count", ValueType.INT64), Column("name", ValueType.STRING)),
    60_000_000,
)
T0 = 1_790_000_000_000_000


def rows(users: list[str], event_us: int, created_us: int | None, count: int, name: str = "x") -> Any:
    stamp = pa.timestamp("us", tz="UTC")
    columns = {
        "user_id": users,
        "event_timestamp": pa.array([event_us] * len(users), stamp),
        "count": [count] * len(users),
        "name": [name] * len(users),
    }
    if created_us is not None:
        columns["created_timestamp"] = pa.array([created_us] * len(users), stamp)
    return pa.table(columns)


@pytest.fixture
def project() -> str:
    return f"p{uuid.uuid4().hex}"


def reader(client: Any, project: str) -> OnlineReader:
    return OnlineReader(client, ReadPlan(project, (LAYOUT,)))


@pytest.mark.parametrize(
    ("steps", "wins"),
    [
        ([(0, 0, 1), (1, 0, 2)], 2),
        ([(1, 0, 1), (0, 9, 2)], 1),
        ([(0, 1, 1), (0, 2, 2)], 2),
        ([(0, 2, 1), (0, 1, 2)], 1),
        ([(0, 1, 1), (0, 1, 2)], 2),
        ([(0, None, 1), (0, 0, 2)], 2),
        ([(0, 0, 1), (0, None, 2)], 1),
        ([(0, None, 1), (0, None, 2)], 2),
        ([(0, 1, 1), (0, None, 2), (0, 1, 3)], 3),
        ([(0, 5, 1), (1, None, 2), (1, 0, 3)], 3),
    ],
)
def test_the_greater_event_and_created_time_wins(
    redis_server: RedisServer, project: str, steps: list[tuple[int, int | None, int]], wins: int
) -> None:
    client = connect(redis_server.connection_string)
    writer = OnlineWriter(client, project)
    for event, created, count in steps:
        writer.write(LAYOUT, rows(["u"], T0 + event, None if created is None else T0 + created, count))
    assert reader(client, project).read(["clicks"], {"user_id": ["u"]}, now_us=T0).values("count") == [wins]


def test_a_created_time_is_not_trusted_after_somebody_else_wrote(redis_server: RedisServer, project: str) -> None:
    client = connect(redis_server.connection_string)
    writer = OnlineWriter(client, project)
    writer.write(LAYOUT, rows(["u"], T0, T0 + 10**9, 1))
    (key,) = encode_keys(LAYOUT, rows(["u"], T0, None, 1), project)
    client.hset(
        key, LAYOUT.event_field, client.hget(key, LAYOUT.event_field) + b"\x10\xe8\x07"
    )  # stock Feast, one µs later
    assert writer.write(LAYOUT, rows(["u"], T0 + 1, T0, 2)) == WriteResult(written=1, older=0)


def test_many_writers_at_once_leave_the_newest_whole_row(redis_server: RedisServer, project: str) -> None:
    users = [f"u{n}" for n in range(50)]

    def write(offset: int) -> None:
        OnlineWriter(connect(redis_server.connection_string), project).write(
            LAYOUT, rows(users, T0 + offset // 3, T0 + offset, offset, name=f"n{offset}")
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [(n * 37) % 90 for n in range(90)]))
    answer = reader(connect(redis_server.connection_string), project).read(["clicks"], {"user_id": users}, now_us=T0)
    assert set(zip(answer.values("count"), answer.values("name"), strict=True)) == {(89, "n89")}


def test_a_forgotten_script_is_loaded_again(redis_server: RedisServer, project: str) -> None:
    client = connect(redis_server.connection_string)
    client.script_flush()
    result = OnlineWriter(client, project).write(LAYOUT, rows([f"u{n}" for n in range(5000)], T0, T0, 1))
    assert result == WriteResult(written=5000, older=0)


def test_values_past_their_time_to_live_are_withheld_and_feast_compatible_reads_show_them(
    redis_server: RedisServer, project: str
) -> None:
    client = connect(redis_server.connection_string)
    OnlineWriter(client, project).write(LAYOUT, rows(["u"], T0, T0, 7))
    for age, status, value in ((60_000_000, 1, 7), (60_000_001, 4, None)):
        answer = reader(client, project).read(["clicks"], {"user_id": ["u"]}, now_us=T0 + age)
        assert answer.status("count").tolist() == [status]
        assert answer.values("count") == answer.to_dict()["count"] == [value]
    late = reader(client, project).read(["clicks"], {"user_id": ["u"]}, now_us=T0 + 10**12, mode=Mode.COMPAT)
    assert late.to_dict()["count"] == [7]
    assert late.age_seconds("clicks").tolist() != late.age_seconds("clicks").tolist()  # NaN: not fresh


def test_the_fill_marker_comes_in_the_same_answer(redis_server: RedisServer, project: str) -> None:
    client = connect(redis_server.connection_string)
    client.hset(fill_marker_key(project), mapping={"mapping_version": 3, "fill_complete": 1})
    marker = reader(client, project).read(["clicks"], {"user_id": ["u"]}, now_us=T0).fill_marker
    assert marker is not None
    assert (marker.mapping_version, marker.fill_complete) == (3, True)


def test_a_corrupt_value_names_view_feature_and_entity(redis_server: RedisServer, project: str) -> None:
    client = connect(redis_server.connection_string)
    OnlineWriter(client, project).write(LAYOUT, rows(["u1", "u2"], T0, T0, 7))
    keys = encode_keys(LAYOUT, rows(["u1", "u2"], T0, None, 1), project)
    client.hset(keys[1], LAYOUT.fields[0], b"\xffjunk")
    client.hset(keys[1], LAYOUT.fields[1], b"\x12\x09short")
    answer = reader(client, project).read(["clicks"], {"user_id": ["u1", "u2"]}, now_us=T0)
    for feature in ("count", "name"):
        with pytest.raises(CorruptData, match=f"feature clicks:{feature}, entity user_id=u2: .*"):
            answer.column(feature)
    client.hset(keys[1], LAYOUT.event_field, b"junk")
    with pytest.raises(CorruptData, match="view clicks, entity user_id=u2: the stored event time is not a timestamp"):
        reader(client, project).read(["clicks"], {"user_id": ["u1", "u2"]}, now_us=T0).event_us("clicks")
    with pytest.raises(CorruptData, match="view clicks, entity user_id=u2: the stored event time is not a timestamp"):
        OnlineWriter(client, project).write(LAYOUT, rows(["u1", "u2"], T0 + 1, T0, 7))


def test_a_redis_that_is_down_is_named_without_its_password(
    redis_factory: Callable[..., RedisServer], project: str
) -> None:
    server = redis_factory()
    client = connect(f"127.0.0.1:{server.port},db=0,password=secret-word")
    server.stop()
    for act in (
        lambda: OnlineWriter(client, project).write(LAYOUT, rows(["u"], T0, T0, 1)),
        lambda: reader(client, project).read(["clicks"], {"user_id": ["u"]}, now_us=T0),
    ):
        with pytest.raises(StackUnavailable, match=f"Redis at 127.0.0.1:{server.port} cannot be reached") as refusal:
            act()
        assert "secret-word" not in str(refusal.value)


def test_a_restarted_redis_is_used_again(redis_factory: Callable[..., RedisServer], project: str) -> None:
    server = redis_factory()
    client = connect(server.connection_string)
    writer = OnlineWriter(client, project)
    writer.write(LAYOUT, rows(["u"], T0, T0, 1))
    server.stop()
    redis_factory(port=server.port)
    assert writer.write(LAYOUT, rows(["u"], T0, T0, 1)) == WriteResult(1, 0)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A server that accepts and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.close()
    for connection in held:
        connection.close()


def test_a_slow_redis_is_given_up_after_the_timeout(deaf_port: int, project: str) -> None:
    client = connect(f"127.0.0.1:{deaf_port},socket_timeout=0.2")
    start = time.monotonic()
    with pytest.raises(StackUnavailable, match="did not answer in time"):
        reader(client, project).read(["clicks"], {"user_id": ["u"]}, now_us=T0)
    assert time.monotonic() - start < 3


def test_a_full_redis_refuses_and_keeps_what_it_has(redis_factory: Callable[..., RedisServer], project: str) -> None:
    server = redis_factory({"maxmemory": "3mb", "maxmemory-policy": "noeviction"})
    client = connect(server.connection_string)
    writer = OnlineWriter(client, project)
    writer.write(LAYOUT, rows(["first"], T0, T0, 1))
    many = rows([f"u{n}" for n in range(50_000)], T0, T0, 1, name="n" * 100)
    with pytest.raises(StackUnavailable, match=r"is full .maxmemory reached under noeviction"):
        writer.write(LAYOUT, many)
    assert reader(client, project).read(["clicks"], {"user_id": ["first"]}, now_us=T0).values("count") == [1]


def test_a_read_only_replica_says_so(
    redis_factory: Callable[..., RedisServer], redis_server: RedisServer, project: str
) -> None:
    server = redis_factory()
    server.client().replicaof("127.0.0.1", redis_server.port)
    client = connect(server.connection_string)
    with pytest.raises(StackUnavailable, match=r"read-only replica|still loading"):
        OnlineWriter(client, project).write(LAYOUT, rows(["u"], T0, T0, 1))


def test_emptying_a_project_leaves_one_whose_name_ends_the_same(redis_server: RedisServer) -> None:
    client = connect(redis_server.connection_string)
    suffix = uuid.uuid4().hex
    for name in (suffix, f"shadow_{suffix}"):
        OnlineWriter(client, name).write(LAYOUT, rows(["u1", "u*", f"u{suffix}"], T0, T0, 1))
    assert delete_project(client, suffix) == 3
    kept = reader(client, f"shadow_{suffix}").read(["clicks"], {"user_id": ["u1", "u*", f"u{suffix}"]}, now_us=T0)
    assert kept.values("count") == [1, 1, 1]
    gone = reader(client, suffix).read(["clicks"], {"user_id": ["u1"]}, now_us=T0)
    assert gone.status("count").tolist() == [3]


@pytest.mark.parametrize("text", ["", "db=0", "localhost", "localhost:x,password=secret"])
def test_a_connection_string_that_is_none_is_refused_without_the_password(text: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        parse_connection_string(text)
    assert "secret" not in str(refusal.value)


def test_a_password_that_looks_like_a_number_stays_text() -> None:
    address = parse_connection_string("h:1,password=0123,ssl=true,db=2")
    assert address.options == {"password": "0123", "ssl": True, "db": 2}
    assert "0123" not in repr(address)


def test_a_view_of_thousands_of_features_is_written_whole(redis_server: RedisServer, project: str) -> None:
    features = tuple(Column(f"f{n}", ValueType.INT64) for n in range(3000))
    layout = ViewLayout("wide", (Column("user_id", ValueType.STRING),), features)
    stamp = pa.array([T0], pa.timestamp("us", tz="UTC"))
    table = pa.table({"user_id": ["u"], "event_timestamp": stamp, **{column.name: [5] for column in features}})
    client = connect(redis_server.connection_string)
    assert OnlineWriter(client, project, key_ttl_seconds=60).write(layout, table) == WriteResult(1, 0)
    answer = OnlineReader(client, ReadPlan(project, (layout,))).read(["wide"], {"user_id": ["u"]}, now_us=T0)
    assert set(map(tuple, answer.to_dict().values())) == {("u",), (5,)}
    assert 0 < client.ttl(encode_keys(layout, table, project)[0]) <= 60
