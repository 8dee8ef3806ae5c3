"""The stream loses and doubles nothing when processes die, servers restart and services refuse, by the oracle."""

import time

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.stream_process import finish, running
from tests.support.stream_world import records_of

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(3600)]


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_dying_workers_a_forgetful_redis_and_refusing_services_change_nothing(
    settings, aws, tmp_path, redis_factory, seconds
):
    memory = redis_factory()
    settings = settings.model_copy(update={"redis_state": type(settings.redis_state)(memory.connection_string)})
    proxy = FaultProxy(settings.aws_endpoint_url)
    with running(settings, aws, tmp_path, 11, endpoint=proxy.endpoint_url) as stream:
        stream.start_when_free()
        for _ in range(2):
            stream.send(40)
            stream.kill_a_worker()
            stream.settle()
        stream.send(60)
        memory.kill()
        memory.restart()
        stream.send(60)
        stream.settle()
        memory.kill()
        stream.send(30)
        memory.restart()
        stream.settle()
        assert "rebuilt from the lake" in stream.log()
        for service in ("s3", "sqs"):
            proxy.failing.add(service)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                stream.send(5)
                time.sleep(0.2)
            proxy.failing.clear()
            stream.settle()
        assert proxy.refused
        finish(stream)
    proxy.stop()


def test_a_split_in_mid_stream_is_followed_and_nothing_of_the_closed_shard_is_lost(settings, aws, tmp_path):
    with running(settings, aws, tmp_path, 12) as stream:
        stream.start_when_free()
        stream.send(40)
        kinesis = aws.client("kinesis")
        kinesis.split_shard(
            StreamName=settings.event_stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**126)
        )
        for _ in range(10):
            stream.send(20)
        stream.settle()
        assert len(kinesis.list_shards(StreamName=settings.event_stream)["Shards"]) == 4
        finish(stream, records_of(kinesis, settings.event_stream, stream.sent))
