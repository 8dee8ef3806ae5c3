"""The Spark session that the receiver runs on.

The same on a laptop and on a cluster: UTC, this Python on the executors, few shuffle partitions.
"""

import os
import sys
from typing import TYPE_CHECKING

from stillpoint.errors import StackUnavailable
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkEnded(StackUnavailable):
    """Spark's Java process has ended; only a new Python process can start another."""


def is_alive(session: "SparkSession") -> bool:
    """Say whether the session's Java process still answers."""
    from py4j.protocol import Py4JError

    try:
        return not session.sparkContext._jsc.sc().isStopped()
    except (Py4JError, OSError, AttributeError):
        return False


def spark_session(settings: Settings, name: str, *, master: str | None = None) -> "SparkSession":
    """Return the active session, or start one. On a cluster the platform's master and memory settings win."""
    from pyspark.sql import SparkSession

    from stillpoint.local.java import use_java

    use_java()
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = (
        SparkSession.builder.appName(name)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", settings.shuffle_partitions)
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", 50_000)
        .config("spark.sql.streaming.minBatchesToRetain", 20)
        .config("spark.sql.streaming.pollingDelay", "10ms")
        .config("spark.sql.streaming.numRecentProgressUpdates", 20)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.warehouse.dir", str(settings.home / "spark" / "warehouse"))
    )
    if master is not None:
        builder = builder.master(master).config("spark.driver.memory", "1g").config("spark.driver.host", "127.0.0.1")
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
