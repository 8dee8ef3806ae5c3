"""Every error of a server is told from every fault of what was given."""

import errno
import http.client
import logging
import socket
import ssl
import urllib.error
from typing import Any

import botocore.exceptions
import httpx
import polars as pl
import pyarrow.fs as pafs
import pytest
import redis.exceptions
import requests
import urllib3.exceptions
from botocore.exceptions import ClientError
from redis.exceptions import ResponseError

from stillpoint.errors import CorruptData, InvalidInput, ModelRefused, StackUnavailable
from stillpoint.outage_table import AWS_CODES, AWS_ERRORS, ERRNOS, LIBRARY_ERRORS, REDIS_CODES, REDIS_ERRORS
from stillpoint.outages import OutageLog, outage

SCRIPT = "Error running script (call to f_0a1b): @user_script:4: -{} nothing more. script: 0a1b, on @user_script:4."
PIPELINE = "Command # 3 (HSET k OOM LOADING) of pipeline caused error: {} what the server says"


def client_error(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


def of_botocore(name: str) -> Exception:
    """Return an error of botocore, whatever its text is made of."""
    kind = getattr(botocore.exceptions, name)
    error: Exception = kind.__new__(kind)
    Exception.__init__(error, name)
    return error


@pytest.mark.parametrize("code", sorted(REDIS_CODES))
@pytest.mark.parametrize("form", ["{} what the server says", PIPELINE, SCRIPT, "ERR " + SCRIPT])
def test_what_redis_says_of_itself_is_an_outage_also_inside_a_script_and_a_pipeline(code: str, form: str) -> None:
    found = outage(ResponseError(form.format(code)))
    assert found is not None
    assert (found.server, found.why) == ("Redis", REDIS_CODES[code])


@pytest.mark.parametrize("code", ["WRONGTYPE", "ERR", "NOSCRIPT", "CROSSSLOT", "EXECABORT"])
@pytest.mark.parametrize("form", ["{} what the server says", PIPELINE, SCRIPT])
def test_what_redis_says_of_a_command_is_a_fault(code: str, form: str) -> None:
    assert outage(ResponseError(form.format(code))) is None


REDIS_FAULTS = {
    "RedisError",
    "ResponseError",
    "DataError",
    "PubSubError",
    "WatchError",
    "NoScriptError",
    "ExecAbortError",
    "ModuleError",
    "LockError",
    "LockNotOwnedError",
    "ChildDeadlockedError",
    "RedisClusterException",
    "ClusterError",
    "ClusterCrossSlotError",
    "CrossSlotTransactionError",
    "InvalidPipelineStack",
    "IncorrectPolicyType",
}


@pytest.mark.parametrize(
    "name",
    [name for name, kind in vars(redis.exceptions).items() if isinstance(kind, type) and issubclass(kind, Exception)],
)
def test_each_error_of_redis_py_is_decided(name: str) -> None:
    kind = getattr(redis.exceptions, name)
    error = kind.__new__(kind)
    Exception.__init__(error, "1 h:1")
    assert (outage(error) is None) == (name in REDIS_FAULTS)
    assert set(REDIS_ERRORS) <= set(vars(redis.exceptions))


@pytest.mark.parametrize(
    "text",
    ["Redis Cluster cannot be connected. Please", "All slots are not covered after", "Too many Cluster redirections"],
)
def test_a_cluster_that_cannot_be_found_is_an_outage(text: str) -> None:
    assert outage(redis.exceptions.RedisClusterException(text)) is not None


@pytest.mark.parametrize("code", sorted(AWS_CODES))
def test_each_code_of_aws_in_the_table_is_an_outage_whatever_its_status(code: str) -> None:
    assert outage(client_error(code)) is not None


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504, 529])
def test_a_status_of_aws_that_is_about_the_server_or_our_keys_is_an_outage(status: int) -> None:
    assert outage(client_error("SomethingNew", status)) is not None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("NoSuchKey", 404),
        ("404", 404),
        ("PreconditionFailed", 412),
        ("ValidationException", 400),
        ("InvalidParameterValue", 400),
        ("InvalidMessageContents", 400),
        ("EntityTooLarge", 400),
        ("AWS.SimpleQueueService.BatchRequestTooLong", 400),
        ("ModelError", 424),
        ("ModelError", 500),
    ],
)
def test_what_aws_says_of_what_it_was_sent_is_a_fault(code: str, status: int) -> None:
    assert outage(client_error(code, status)) is None


BOTOCORE_OUTAGES = {
    *AWS_ERRORS,
    *("EndpointConnectionError", "SSLError", "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError"),
    *("ProxyConnectionError", "ResponseStreamingError", "SSOTokenLoadError", "UnauthorizedSSOTokenError"),
    *("LoginRefreshRequired", "LoginInsufficientPermissions", "LoginTokenLoadError", "LoginAuthorizationCodeError"),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, kind in vars(botocore.exceptions).items()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == "botocore.exceptions"
    ],
)
def test_each_error_of_botocore_is_decided(name: str) -> None:
    assert (outage(of_botocore(name)) is not None) == (name in BOTOCORE_OUTAGES)
    assert set(AWS_ERRORS) <= set(vars(botocore.exceptions))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        socket.gaierror(-2, "Name or service not known"),
        ssl.SSLError("handshake"),
        urllib.error.URLError("refused"),
        urllib.error.HTTPError("http://x", 503, "busy", http.client.HTTPMessage(), None),
        http.client.RemoteDisconnected("gone"),
        http.client.IncompleteRead(b""),
        urllib3.exceptions.ProtocolError("cut"),
        urllib3.exceptions.NewConnectionError(None, "refused"),  # type: ignore[arg-type]
        requests.ConnectionError(),
        requests.ReadTimeout(),
        httpx.ConnectError("refused"),
        MemoryError(),
        *(OSError(number, "said") for number in ERRNOS),
        StackUnavailable("Redis at x is away"),
    ],
    ids=repr,
)
def test_other_libraries_and_this_machine_have_outages_too(error: Exception) -> None:
    found = outage(error)
    assert found is not None
    assert str(found).strip()
    assert LIBRARY_ERRORS


@pytest.mark.parametrize(
    "error",
    [
        ValueError("ConnectionError: AWS Error NETWORK_CONNECTION"),
        KeyError("TimeoutError"),
        FileNotFoundError(errno.ENOENT, "none"),
        PermissionError(errno.EACCES, "not yours"),
        IsADirectoryError(errno.EISDIR, "folder"),
        OSError("Couldn't deserialize thrift: don't know what type"),
        OSError("When reading 'k' in bucket 'b': AWS Error NO_SUCH_KEY during GetObject operation"),
        urllib.error.HTTPError("http://x", 422, "wrong", http.client.HTTPMessage(), None),
        CorruptData("damaged"),
        InvalidInput("no column"),
        ModelRefused("no model"),
        RecursionError(),
    ],
    ids=repr,
)
def test_a_fault_of_what_was_given_is_no_outage(error: Exception) -> None:
    assert outage(error) is None


def test_an_error_that_was_raised_from_an_outage_is_one() -> None:
    error = CorruptData("cannot be read")
    error.__cause__ = KeyError("part")
    assert outage(error) is None
    error.__cause__.__cause__ = ConnectionResetError("cut")
    assert outage(error) is not None


@pytest.fixture
def nobody() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_s3_that_is_away_is_an_outage_as_arrow_and_polars_tell_it(nobody: str) -> None:
    once = pafs.AwsStandardS3RetryStrategy(max_attempts=1)
    away = pafs.S3FileSystem(
        endpoint_override=nobody, scheme="http", access_key="a", secret_key="b", region="us-east-1", retry_strategy=once
    )
    options: Any = {
        "aws_endpoint_url": f"http://{nobody}",
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
        "max_retries": 0,
        "retry_timeout_ms": 10,
    }
    with pytest.raises(OSError) as by_arrow:
        away.open_input_file("bucket/key")
    with pytest.raises(Exception, match=nobody) as by_polars:
        pl.scan_parquet("s3://bucket/key.parquet", storage_options=options).collect()
    assert outage(by_arrow.value) is not None
    assert outage(by_polars.value) is not None


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = OutageLog(logging.getLogger("test"), "requests wait")
    told.over(now=0.0)
    for second in range(100):
        told.met("Redis is away\nfar", now=float(second))
    told.over(now=100.0)
    told.over(now=101.0)
    assert caplog.messages == ["requests wait: Redis is away far", "requests wait: over, after 100 s"]
