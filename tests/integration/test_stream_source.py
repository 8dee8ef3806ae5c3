"""The stream reads a platform's own source when the settings ask for it; the platforms' connectors are simulated here."""

import pytest

from ingestion.stream_source import SourceUnusable, read_stream, stream_source
from ingestion.supervisor import Supervisor
from stillpoint.clock import system_clock
from stillpoint.events.stream import put_events
from stillpoint.lake.app_lake import open_lake
from stillpoint.local.provision import provision
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.settings import Settings
from tests.support.stream_world import SimulatedUsers, now, streaming, wait_for
from tests.support.wellness import STREAMED_VIEWS

pytestmark = pytest.mark.timeout(3600)


def connector(name, columns):
    """Return a source with a native connector's name and columns, over our own reader. Made here, so that Spark ships it."""
    from ingestion.kinesis_source import KinesisSource, KinesisStreamReader

    def renamed(rows):
        from datetime import UTC, datetime

        for shard, sequence, key, arrived_us, data in rows:
            values = {
                "shardId": shard,
                "sequenceNumber": sequence,
                "partitionKey": key,
                "approximateArrivalTimestamp": datetime.fromtimestamp(arrived_us / 1e6, UTC),
                "data": data,
            }
            yield tuple(values.get(column) for column in columns)

    class Reader(KinesisStreamReader):
        def read(self, start):
            rows, end = super().read(start)
            return iter(list(renamed(rows))), end

        def readBetweenOffsets(self, start, end):  # noqa: N802
            return renamed(super().readBetweenOffsets(start, end))

    class Connector(KinesisSource):
        @classmethod
        def name(cls):
            return name

        def schema(self):
            types = {"data": "binary", "approximateArrivalTimestamp": "timestamp"}
            return ", ".join(f"{column} {types.get(column, 'string')}" for column in columns)

        def simpleStreamReader(self, schema):  # noqa: N802
            import json

            given = self.options
            client = {
                "region_name": given.get("kinesis.region"),
                "endpoint_url": given.get("kinesis.endpointUrl"),
                "aws_access_key_id": given.get("kinesis.awsAccessKeyId"),
                "aws_secret_access_key": given.get("kinesis.awsSecretKey"),
            }
            options = {
                "stream": given.get("kinesis.streamName"),
                "client": json.dumps(client),
                "start": given.get("kinesis.startingPosition"),
                "limit": given.get("kinesis.maxFetchRecordsPerShard"),
            }
            return Reader(options)

    return Connector


EMR = ("data", "streamName", "partitionKey", "sequenceNumber", "approximateArrivalTimestamp")


def plain(settings, name):
    return settings.model_copy(update={"stream_source": name})


def test_a_missing_or_foreign_connector_is_said_in_one_sentence_and_never_retried(tmp_path, spark, redis_server):
    connections = {f"redis_{name}": redis_server.connection_string for name in ("green", "blue", "serving", "state")}
    settings = Settings(_env_file=None, home=tmp_path, lake=str(tmp_path / "lake"), **connections)
    spark.dataSource.register(connector("kinesis", ("streamName", "data")))
    source = stream_source(
        plain(settings, "kinesis"), start="LATEST", client=settings.aws_client_arguments(), query="q", lag_file=""
    )
    with pytest.raises(SourceUnusable, match=r"kinesis has the columns data, streamName; expected also sequenceNumber"):
        read_stream(spark, source)
    supervisor = Supervisor(plain(settings, "aws-kinesis"), clock=system_clock)
    supervisor._processor = lambda query_id, epoch: None
    with pytest.raises(SourceUnusable, match=r"STREAM_SOURCE is aws-kinesis, and Spark 4\.\S+ has no such source: EMR"):
        supervisor.run()


@pytest.mark.soak
def test_a_native_source_feeds_the_whole_stream(settings, aws, spark):
    provision(settings)
    lake = open_lake(settings)
    views = tuple(view.name for view in STREAMED_VIEWS)
    write_control(lake.objects, (Target(colour=Colour.GREEN, project="g_native", views=views),))
    sent = SimulatedUsers(10, 3).some(300, now())
    put_events(aws.client("kinesis"), settings.event_stream, sent)
    spark.dataSource.register(connector("aws-kinesis", EMR))
    with streaming(plain(settings, "aws-kinesis")) as (_, reports):
        wait_for(lambda: sum(report.records for report in reports) >= len(sent), "every record")
    stored = lake.read("events", columns=["shard", "sequence"]).to_pylist()
    stored += lake.read("quarantine", columns=["shard", "sequence"]).to_pylist()
    assert len({(row["shard"], row["sequence"]) for row in stored}) == len(stored) == len(sent)
    assert sum(report.verdicts["on_time"] for report in reports) > 150
