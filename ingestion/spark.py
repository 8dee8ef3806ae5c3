"""The Spark session that the receiver runs on.

The same on a laptop and on a cluster: UTC, this Python on the executors, few shuffle partitions.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stillpoint.app.load import App
from stillpoint.errors import StackUnavailable
from stillpoint.lake.files import write_whole
from stillpoint.settings import Settings
from stillpoint.spark_code import clustered, refuse_executors_without_app, ship_app, ship_packages

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
    """Return the active session, or start one. Without a `master` the platform's own and its memory and addresses win.

    Executors on other machines run the Python that PYSPARK_PYTHON names, or one at this Python's path, and reach the driver at
    `spark_driver_host`.
    """
    from pyspark.sql import SparkSession

    from stillpoint.local.java import use_java

    use_java()
    if master is None or not clustered(master):
        os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
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
        .config("spark.sql.warehouse.dir", str(settings.home / "spark" / "warehouse"))
    )
    if master is not None:
        builder = builder.master(master).config("spark.driver.memory", settings.spark_driver_memory)
        for key, value in _addresses(settings, master).items():
            builder = builder.config(key, value)
        settings_file = _log_to_file(settings.home)
        if settings_file is not None:
            builder = builder.config(
                "spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={settings_file.as_uri()}"
            )
    session = builder.getOrCreate()
    ship_packages(session, ("stillpoint", "ingestion"))
    session.sparkContext.setLogLevel("ERROR")
    return session


def executors_app(session: "SparkSession", app: App) -> str:
    """Send the app to executors on other machines, and return where they load it from.

    Raises:
        StackUnavailable: an executor cannot load it; names the machine and what is missing there.
    """
    if not clustered(session.sparkContext.master):
        return app.where
    where = ship_app(session, app.where, app.folder)
    refuse_executors_without_app(session, where)
    return where


def _addresses(settings: Settings, master: str) -> dict[str, str]:
    """Return where the driver listens: on loopback if its executors are here, else where the settings or Spark say."""
    import pyspark

    if not clustered(master):
        return {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    if master.startswith(
        "local-cluster["
    ):  # its executors start Spark's own scripts, and work below its home by default
        os.environ.setdefault("SPARK_HOME", str(Path(str(pyspark.__file__)).parent))
        os.environ.setdefault("SPARK_WORKER_DIR", str(settings.home / "spark" / "work"))
    host = settings.spark_driver_host
    return {} if host is None else {"spark.driver.bindAddress": "0.0.0.0", "spark.driver.host": host}
