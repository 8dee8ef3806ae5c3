"""Of a failed query a user reads what went wrong, in one line."""

import pytest

from ingestion.failure_line import LONGEST, in_one_line

STREAM = """[STREAM_FAILED] Query [id = 1f, runId = 2e] terminated with exception: An exception was raised by the Python Proxy.
Return Message: Traceback (most recent call last):
  File "py4j/clientserver.py", line 644, in _call_proxy
    return_value = getattr(self.pool[obj_id], method)(*params)
redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1:6390. Connection refused.

JVM stacktrace:
org.apache.spark.sql.streaming.StreamingQueryException: [STREAM_FAILED] Query [id = 1f, runId = 2e] terminated
\tat org.apache.spark.sql.execution.streaming.StreamExecution.run(StreamExecution.scala:372)
Caused by: py4j.Py4JException: An exception was raised by the Python Proxy. SQLSTATE: XXKST"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (STREAM, "ConnectionError: Error 111 connecting to 127.0.0.1:6390. Connection refused."),
        (
            "Job aborted\nCaused by: java.io.IOException: No space left on device",
            "IOException: No space left on device",
        ),
        ("stillpoint.errors.StackUnavailable: Kinesis   is\taway", "StackUnavailable: Kinesis is away"),
        ("plain words\nand more", "ValueError: plain words"),
        ("", "ValueError: no text"),
    ],
)
def test_the_error_at_the_bottom_is_told(text: str, line: str) -> None:
    assert in_one_line(ValueError(text)) == line


def test_a_long_failure_is_cut() -> None:
    assert len(in_one_line(ValueError("x" * 9_000))) == LONGEST
