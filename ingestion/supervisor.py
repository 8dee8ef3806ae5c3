"""Runs the stream until it is stopped, one run at a time.

One run at a time holds the lease. The query is started again after each failure, with a growing pause and without a limit;
a hook is called for each. SIGTERM ends the run after the micro-batch under way.
"""

import json
import logging
import os
import shlex
import socket
import subprocess
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ingestion.batch import rules_of
from ingestion.failure_line import in_one_line
from ingestion.joining.joins import ViewJoins
from ingestion.kinesis_source import KinesisSource, lost_file, read_lost
from ingestion.metrics import StreamMetrics
from ingestion.process_batch import BatchProcessor, BatchReport
from ingestion.rebuild import last_committed
from ingestion.request_queue import RequestQueue
from ingestion.spark import SparkEnded, executors_app, is_alive, spark_session
from ingestion.state_store import StateStore
from ingestion.stream_source import SourceUnusable, native_lag, read_stream, stream_source
from ingestion.whole_states import make_whole, refuse_other_app
from stillpoint.app.load import load_app
from stillpoint.clock import Clock, from_micros
from stillpoint.errors import CorruptData, Fenced, InvalidInput
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.checkpoint import CheckpointedCommit
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import renewing
from stillpoint.leases.names import STREAM_TTL, stream_lease
from stillpoint.outages import OutageLog
from stillpoint.releases.presence import Notifications
from stillpoint.releases.write_targets import read_control
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.shards import EvictionPossible, refuse_eviction
from stillpoint.tombstones import erasure_key, read_tombstones

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming import StreamingQuery

log = logging.getLogger(__name__)

TRIM_HORIZON = "TRIM_HORIZON"
IDLE_SECONDS = 0.5
"""How often the query's state and the source's lag are checked."""
ORDERS_SECONDS = 10.0
"""How long write targets and erasures go unread while no micro-batch runs and no notification says that they changed."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STOP_SECONDS = 8.0


def query_identity(checkpoint: Path, source: str) -> str:
    """Return the id that is bound to a checkpoint folder. A new folder gets a new id, so its commits never mix with older ones.

    Raises:
        CorruptData: the checkpoint holds offsets but has lost its identity.
        SourceUnusable: another source began it, whose offsets this one cannot read.
    """
    path = checkpoint / "query.json"
    if path.exists():
        identity = json.loads(path.read_text())
        began = identity.get("source", "stillpoint")
        if began != source:
            raise SourceUnusable(
                f"checkpoint {checkpoint} was begun by the source {began}, and STILLPOINT_STREAM_SOURCE is {source}; set "
                f"it back, or stop the sending, let the stream read to the end, remove the checkpoint and give --start"
            )
        return str(identity["query_id"])
    if (checkpoint / "offsets").exists():
        raise CorruptData(
            f"checkpoint {checkpoint} has offsets but no query.json; remove it whole to begin a new query"
        )
    checkpoint.mkdir(parents=True, exist_ok=True)
    query_id = uuid.uuid4().hex[:12]
    staged = path.with_suffix(".staged")
    staged.write_text(json.dumps({"query_id": query_id, "source": source}))
    os.replace(staged, path)
    return query_id


def refuse_unfit_redis(settings: Settings, lake: Lake) -> None:
    """Make sure that every Redis that the stream writes is whole and keeps what it is given.

    Raises:
        EvictionPossible: one may drop keys by itself. StackUnavailable: one, or a shard of it, is down.
    """
    written = {
        settings.redis_serving.get_secret_value(): "what users finished lately",
        **{settings.connection(target.colour): "features" for target in read_control(lake.objects).targets},
        settings.redis_state.get_secret_value(): "the stream's states",
    }
    for connection, what in written.items():
        with closing(connect(connection)) as client:
            refuse_eviction(client, what)


def where_to_begin(checkpoint: Path, lake: Lake, start: str | None) -> str:
    """Return where a new query begins reading: at `start` if given, else at `TRIM_HORIZON`. A checkpoint goes on where it was.

    Raises:
        InvalidInput: the checkpoint is new, the lake holds what another query has read, and no start is given.
    """
    if (checkpoint / "query.json").exists() or (checkpoint / "offsets").exists():
        return start or TRIM_HORIZON
    earlier = sorted(name for name in lake.writers() if name.startswith("stream-"))
    if not earlier:
        return start or TRIM_HORIZON
    newest = max((_newest_arrival(lake, name) for name in earlier), default=None)
    found = f"checkpoint {checkpoint} is new, but {lake.root} holds what {', '.join(earlier)} read before"
    if start is None:
        reading_on = "" if not newest else f"`--start {from_micros(newest):%Y-%m-%dT%H:%M:%SZ}` reads on, "
        raise InvalidInput(
            f"{found}; put that checkpoint back, or say where to begin: {reading_on}`--start TRIM_HORIZON` reads again all "
            "that Kinesis keeps, and leaves copies of rows until compaction"
        )
    log.warning("%s; it begins at %s, and what both have read lies twice in the lake until compaction", found, start)
    return start


def _newest_arrival(lake: Lake, writer: str) -> int:
    """Return the arrival time of the newest record that a query has read, in microseconds; 0 if its commits do not say."""
    said = [
        one.properties.get("newest_arrival_us")
        for one in lake.commits(writer)
        if not isinstance(one, CheckpointedCommit)
    ]
    return max((int(one) for one in said if isinstance(one, int)), default=0)


class Supervisor:
    """Runs the query until told to stop. Build it in an entry point; `run` blocks."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        start: str | None = TRIM_HORIZON,
        master: str | None = "local[2]",
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        lease_ttl: timedelta = STREAM_TTL,
        source_client: dict[str, str] | None = None,
    ) -> None:
        """`start` None means `TRIM_HORIZON`, which is refused where another query has read those records before.
        `source_client` holds boto3's arguments for Kinesis, where it is reached otherwise than the rest of AWS."""
        self._settings = settings
        self._clock = clock
        self._start = start
        self._master = master
        self._on_batch = on_batch
        self._lake = open_lake(settings)
        self._stop = threading.Event()
        self._fenced: Fenced | None = None
        self._failing: str | None = None
        self._executors_app: str | None = None
        self._audited = False
        self._lease_ttl = lease_ttl
        self._source_client = source_client or settings.aws_client_arguments()
        self._folder = settings.home / "stream"
        self._gone = read_lost(lost_file(self._folder / "lag.json"))
        self.metrics = StreamMetrics()
        self._mute = OutageLog(log, "the stream's targets and the erasures cannot be read")
        self._lease = stream_lease(
            self._lake.objects,
            holder=f"stillpoint stream, process {os.getpid()} on {socket.gethostname()}",
            ttl=lease_ttl,
            clock=clock,
        )

    def stop(self) -> None:
        """Ask for a clean end; may be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Hold the lease and keep the query running until `stop`.

        Raises:
            LeaseHeld: another run holds the lease. Fenced: another run has taken it over. SparkEnded: Java has ended.
            SourceUnusable: the source that the settings name cannot be used. InvalidInput: `start` cannot be read, or is
            None although another query has read the stream. EvictionPossible: a Redis may drop keys by itself.
            StackUnavailable: a Redis, or a shard of one, is down at the start.
        """
        epoch = self._lease.acquire()
        try:
            with renewing(self._lease, every=self._lease_ttl.total_seconds() / 5, lost=self._lost):
                self._run(epoch)
        finally:
            self._release()
        if self._fenced is not None:
            raise self._fenced

    def _run(self, epoch: int) -> None:
        """Start the query again after each failure, until told to stop or fenced."""
        self._start = where_to_begin(self._folder / "checkpoint", self._lake, self._start)
        refuse_unfit_redis(self._settings, self._lake)
        session = spark_session(self._settings, "stillpoint-stream", master=self._master)
        self._executors_app = executors_app(session, load_app(self._settings.app))
        session.dataSource.register(KinesisSource)
        query_id = query_identity(self._folder / "checkpoint", self._settings.stream_source)
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            began = self._clock()
            failure = self._run_once(session, query_id, epoch)
            if failure is None:
                return
            self.metrics.failed()
            self._tell(failure)
            if not is_alive(session):
                raise SparkEnded(
                    f"Spark's Java process has ended ({in_one_line(failure)}); start `stillpoint stream` again"
                )
            healthy = (self._clock() - began).total_seconds() > 60
            pause = FIRST_PAUSE if healthy else min(LONGEST_PAUSE, pause * 2)
            if healthy:
                self._failing = None
            self._failed(in_one_line(failure))
            self._stop.wait(pause)

    def _failed(self, line: str) -> None:
        """Log one line per outage, and another only if the failure changes."""
        kind = line.partition(":")[0]
        if kind != self._failing:
            log.error("the stream failed and starts again by itself until it works: %s", line)
        self._failing = kind

    def _lost(self, fenced: Fenced) -> None:
        """Stop because another run has taken the lease."""
        self._fenced = fenced
        self._stop.set()

    def _release(self) -> None:
        """Give the lease up. If the store does not answer, the lease expires by itself."""
        try:
            self._lease.release()
        except Exception as error:  # noqa: BLE001  leaving must not fail for whatever the store raises
            log.warning("the lease could not be released and will expire: %s", error)

    def _run_once(self, session: "SparkSession", query_id: str, epoch: int) -> Exception | None:
        """Run the query until it fails or is told to stop. Return the failure, or None after a clean stop."""
        query: StreamingQuery | None = None
        processor: BatchProcessor | None = None
        try:
            processor = self._processor(query_id, epoch)
            query = self._query(session, processor, query_id)
            look_at = float("-inf")
            with Notifications(connect(self._settings.redis_serving.get_secret_value())) as news:
                while not self._stop.is_set():
                    heard = news.wait(IDLE_SECONDS)
                    if not query.isActive:
                        return query.exception() or RuntimeError("the query ended by itself")
                    self._tell_lag(query)
                    if news.renewed:
                        look_at = min(look_at, time.monotonic() + IDLE_SECONDS)
                    if heard is not None or time.monotonic() >= look_at:
                        news.drain()
                        obeyed = self._obey(processor)
                        look_at = time.monotonic() + (ORDERS_SECONDS if obeyed else IDLE_SECONDS)
        except Fenced as fenced:
            self._lost(fenced)
        except (SourceUnusable, InvalidInput, EvictionPossible):
            raise
        except Exception as failure:  # noqa: BLE001  every failure of a sink or of Spark is answered by starting again
            return failure
        finally:
            if query is not None and is_alive(session):
                _end(query)
            if processor is not None:
                processor.end()
        return None

    def _tell_lag(self, query: "StreamingQuery") -> None:
        if self._settings.stream_source == "stillpoint":
            self.metrics.lag(self._folder / "lag.json")
            self._count_lost()
        else:
            self.metrics.lag_of(native_lag(query.lastProgress))

    def _obey(self, processor: BatchProcessor) -> bool:
        """Acknowledge new write targets and erasures. Return whether it succeeded; if not, the next beat tries again."""
        try:
            done = processor.acknowledge_if_idle()
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001  a lake that does not answer is asked again at the next beat
            self._mute.met(error, now=time.monotonic())
            return False
        self._mute.over(now=time.monotonic())
        return done

    def _count_lost(self) -> None:
        """Count and report shards that disappeared before they were read to their end."""
        found = read_lost(lost_file(self._folder / "lag.json"))
        new = {shard: after for shard, after in found.items() if shard not in self._gone}
        self._gone = found
        for shard, after in new.items():
            message = (
                f"Kinesis shard {shard} of {self._settings.event_stream} was gone before it had been read to its end: "
                f"records after {after} have passed their retention unread, if there were any; its children are read on"
            )
            log.error("%s", message)
            self._tell(CorruptData(message))
        if new:
            self.metrics.lost(len(new))

    def _processor(self, query_id: str, epoch: int) -> BatchProcessor:
        refuse_unfit_redis(self._settings, self._lake)
        states = StateStore(connect(self._settings.redis_state.get_secret_value()), query_id)
        newest = last_committed(self._lake, f"stream-{query_id}")
        refuse_other_app(
            rules_of(self._settings).stream.app,
            states.views() if newest is not None else None,
            read_control(self._lake.objects),
        )
        views = make_whole(
            self._lake,
            query_id,
            states,
            stream=rules_of(self._settings).stream,
            tombstones=read_tombstones(self._lake.objects, erasure_key(self._settings)),
            now=self._clock(),
            newest=newest,
            epoch=epoch,
            counted=self._audited,
        )
        self._audited = self._audited or newest is not None
        config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30)
        client = boto3.client("sqs", config=config, **self._settings.aws_client_arguments())  # type: ignore[call-overload]
        return BatchProcessor(
            self._settings,
            query=query_id,
            executors_app=self._executors_app,
            lake=self._lake,
            lease=self._lease,
            states=states,
            send=RequestQueue(client, self._settings.prediction_queue).send,
            clock=self._clock,
            report=self._reported,
            newest=newest,
            views=views,
            joins=ViewJoins(self._settings, query=query_id, epoch=epoch, clock=self._clock),
        )

    def _reported(self, report: BatchReport) -> None:
        self.metrics.batch(report)
        if self._failing is not None:
            log.warning("the stream works again")
            self._failing = None
        self._on_batch(report)

    def _query(self, session: "SparkSession", processor: BatchProcessor, query_id: str) -> "StreamingQuery":
        self._folder.mkdir(parents=True, exist_ok=True)
        source = stream_source(
            self._settings,
            start=self._start or TRIM_HORIZON,
            client=self._source_client,
            query=query_id,
            lag_file=str(self._folder / "lag.json"),
        )
        trigger: dict[str, Any] = {
            "processingTime": f"{int(self._settings.stream_trigger_seconds * 1_000)} milliseconds"
        }
        return (
            read_stream(session, source)
            .writeStream.foreachBatch(processor.process)
            .option("checkpointLocation", str(self._folder / "checkpoint"))
            .trigger(**trigger)
            .start()
        )

    def _tell(self, failure: Exception) -> None:
        """Call the failure hook. An error in the hook is logged and never stops the stream."""
        hook = self._settings.failure_hook
        if not hook:
            return
        text = json.dumps(
            {"what": "stillpoint stream failed", "why": str(failure)[:2_000], "at": self._clock().isoformat()}
        )
        try:
            if hook.startswith(("http://", "https://")):
                request = urllib.request.Request(hook, text.encode(), {"Content-Type": "application/json"})
                urllib.request.urlopen(request, timeout=5).close()
            else:
                subprocess.run(shlex.split(hook), input=text, text=True, timeout=10, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("the failure hook failed too: %s", error)


def _end(query: "StreamingQuery") -> None:
    """Stop a query, giving the micro-batch under way a moment to finish."""
    waited = threading.Event()
    for _ in range(int(STOP_SECONDS / 0.1)):
        if not query.isActive or not query.status.get("isTriggerActive"):
            break
        waited.wait(0.1)
    query.stop()
