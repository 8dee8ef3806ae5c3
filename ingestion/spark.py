"""The Spark session that the receiver runs on.

The same on a laptop and on a cluster: UTC, this Python on the executors, few shuffle partitions.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stillpoint.errors import StackUnavailable
from stillpoint.lake.files import write_whole
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_LOG4J = """rootLogger.level = error
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss}} %p %c: %m%n%ex
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 1
"""


class SparkEnded(StackUnavailable):
    """Spark's Java process has ended; only a new Python process can start another."""


def is_alive(session: "SparkSession") -> bool:
    """Return whether the session's Java process still answers."""
    from py4j.protocol import Py4JError

    try:
        return not session.sparkContext._jsc.sc().isStopped()
    except (Py4JError, OSError, AttributeError):
        return False


def _log_to_file(home: Path) -> Path | None:
    """Return a log4j configuration that makes Java log to a file of the home, not between our lines; None if the home cannot be written."""
    path = home / "spark" / "log4j2.properties"
    try:
        (home / "logs").mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _LOG4J.format(log=home / "logs" / "spark.log"))
    except OSError:
        return None
    return path


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
        settings_file = _log_to_file(settings.home)
        if settings_file is not None:
            builder = builder.config(
                "spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={settings_file.as_uri()}"
            )
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
