"""Each source of Spark is given its own options, and its columns become those of a record."""

import json

import pytest

from ingestion.kinesis_shards import Record, shard_of
from ingestion.kinesis_source import FORMAT
from ingestion.stream_source import SourceUnusable, native_lag, our_columns, stream_source
from ingestion.supervisor import query_identity
from stillpoint.errors import CorruptData, InvalidInput
from stillpoint.settings import Settings

EMR_COLUMNS = ["data", "streamName", "partitionKey", "sequenceNumber", "approximateArrivalTimestamp"]
DATABRICKS_COLUMNS = ["partitionKey", "data", "stream", "shardId", "sequenceNumber", "approximateArrivalTimestamp"]


def source(name, *, start="TRIM_HORIZON", client=None, **more):
    settings = Settings(
        _env_file=None, stream_source=name, event_stream="taps", stream_max_records_per_batch=20_000, **more
    )
    client = client or {"region_name": "eu-west-1"}
    return stream_source(settings, start=start, client=client, query="abc", lag_file="lag.json")


def test_our_own_source_is_given_clients_arguments_limit_and_lag_file():
    found = source("stillpoint", start="LATEST")
    assert found.format == FORMAT
    assert json.loads(found.options["client"]) == {"region_name": "eu-west-1"}
    assert {name: found.options[name] for name in ("stream", "start", "limit", "lag_file")} == {
        "stream": "taps",
        "start": "LATEST",
        "limit": "20000",
        "lag_file": "lag.json",
    }


def test_databricks_source_is_given_its_names():
    assert source("kinesis").format == "kinesis"
    assert source("kinesis").options == {
        "streamName": "taps",
        "region": "eu-west-1",
        "initialPosition": "trim_horizon",
        "maxRecordsPerFetch": "10000",
        "maxFetchDuration": "1s",
        "fetchBufferSize": "39mb",
    }
    assert source("kinesis", start="LATEST").options["initialPosition"] == "latest"
    position = json.loads(source("kinesis", start="2026-03-01T02:00:00+02:00").options["initialPosition"])
    assert position == {"at_timestamp": "03/01/2026 00:00:00 UTC", "format": "MM/dd/yyyy HH:mm:ss ZZZ"}


def test_emr_source_is_given_its_names():
    found = source("aws-kinesis", lake="s3://bucket/lake/", event_shards=8)
    assert found.format == "aws-kinesis"
    assert found.options == {
        "kinesis.streamName": "taps",
        "kinesis.consumerType": "GetRecords",
        "kinesis.endpointUrl": "https://kinesis.eu-west-1.amazonaws.com",
        "kinesis.region": "eu-west-1",
        "kinesis.kinesisRegion": "eu-west-1",
        "kinesis.startingPosition": "TRIM_HORIZON",
        "kinesis.maxFetchRecordsPerShard": "2500",
        "kinesis.failOnDataLoss": "true",
        "kinesis.metadataPath": "s3://bucket/lake/stream/source/abc",
    }
    at = source("aws-kinesis", start="2026-03-01T02:00:00.5+02:00").options["kinesis.startingPosition"]
    assert at == "AT_TIMESTAMP 2026-03-01T00:00:00Z"
    assert "kinesis.metadataPath" not in source("aws-kinesis", lake="/data/lake").options
    china = source("aws-kinesis", client={"region_name": "cn-north-1"})
    assert china.options["kinesis.endpointUrl"] == "https://kinesis.cn-north-1.amazonaws.com.cn"


def test_keys_and_endpoints_of_settings_reach_every_source():
    client = {
        "region_name": "us-east-1",
        "endpoint_url": "http://stand-in",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
    }
    assert json.loads(source("stillpoint", client=client).options["client"]) == client
    databricks = source("kinesis", client=client).options
    assert [databricks[n] for n in ("endpoint", "awsAccessKey", "awsSecretKey")] == ["http://stand-in", "key", "secret"]
    emr = source("aws-kinesis", client=client).options
    names = ("kinesis.endpointUrl", "kinesis.awsAccessKeyId", "kinesis.awsSecretKey")
    assert [emr[name] for name in names] == ["http://stand-in", "key", "secret"]


@pytest.mark.parametrize("name", ["stillpoint", "kinesis", "aws-kinesis"])
@pytest.mark.parametrize("start", ["yesterday", "2026-03-01T00:00:00"])
def test_a_start_that_is_no_moment_is_refused(name, start):
    with pytest.raises(InvalidInput, match="expected TRIM_HORIZON, LATEST or an ISO time with its offset"):
        source(name, start=start)


@pytest.mark.parametrize("available", [EMR_COLUMNS, DATABRICKS_COLUMNS])
def test_native_columns_become_those_of_a_record(available):
    columns = our_columns("kinesis", available)
    assert tuple(columns) == Record._fields
    assert columns["shard"] == ("shardId" if "shardId" in available else "cast(null as string)")
    assert columns["arrived_us"] == "unix_micros(approximateArrivalTimestamp)"
    assert our_columns(FORMAT, Record._fields) == {name: name for name in Record._fields}


def test_another_connector_under_the_name_is_refused_in_words():
    with pytest.raises(SourceUnusable, match=r"kinesis has the columns data, streamName; expected also sequenceNumber"):
        our_columns("kinesis", ["streamName", "data"])


def test_a_shard_is_read_from_awss_sequence_numbers():
    assert shard_of("49545115243490985018280067714973144582180062593244200961") == "shardId-000000000000"
    assert shard_of("49590338271490256608559692538361571095921575989136588898") == "shardId-000000000006"
    assert shard_of("1234") == "unknown"


def test_lag_of_a_native_source_is_what_spark_says_of_it():
    assert native_lag({"sources": [{"metrics": {"maxMsBehindLatest": "2500"}}]}) == {"all": 2.5}
    assert native_lag({"sources": [{"metrics": None}, {}]}) == {}
    assert native_lag(None) == {}


def test_a_checkpoint_belongs_to_the_source_that_began_it(tmp_path):
    first = query_identity(tmp_path, "stillpoint")
    assert query_identity(tmp_path, "stillpoint") == first
    with pytest.raises(SourceUnusable, match="begun by the source stillpoint, and STILLPOINT_STREAM_SOURCE is kinesis"):
        query_identity(tmp_path, "kinesis")
    (tmp_path / "query.json").write_text('{"query_id": "older"}')
    assert query_identity(tmp_path, "stillpoint") == "older"
    (tmp_path / "query.json").unlink()
    (tmp_path / "offsets").mkdir()
    with pytest.raises(CorruptData, match=r"has offsets but no query\.json"):
        query_identity(tmp_path, "stillpoint")
