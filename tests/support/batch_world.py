"""A stream's micro-batches on a real lake and Redis, without Spark: the driver's half calls the executors' directly."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from ingestion.batch import rules_of
from ingestion.joining.joins import ViewJoins, in_a_thread
from ingestion.kinesis_shards import Record
from ingestion.process_batch import BatchProcessor
from ingestion.rebuild import last_committed
from ingestion.state_store import StateStore
from ingestion.whole_states import make_whole
from stillpoint.app.load import load_app
from stillpoint.clock import to_micros
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import Lease
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.settings import Settings
from stillpoint.tombstones import Tombstones
from tests.support.wellness import APP


class Killed(Exception):
    """Stands for the end of a process."""


class Parts:
    """Stands for Spark's data frame: the records in as many partitions as asked, by user."""

    def __init__(self, records, count):
        self._records, self._count = records, count

    def repartition(self, *_):
        return Partitions([self._part(part) for part in range(self._count)], self._count)

    def _part(self, part):
        own = [r for r in self._records if hash(r.partition_key) % self._count == part]
        if not own:
            return []
        columns = [pa.array(list(column)) for column in zip(*own, strict=True)]
        return [pa.RecordBatch.from_arrays(columns, names=list(Record._fields))]


class Partitions:
    """Stands for a data frame that is computed when it is collected."""

    def __init__(self, parts, count):
        self._parts, self._count = parts, count

    def repartition(self, _, column):
        """Put rows of one value into one partition."""
        parts = [[] for _ in range(self._count)]
        for batch in (batch for part in self._parts for batch in part):
            for index, value in enumerate(batch.column(column).to_pylist()):
                parts[hash(value) % self._count].append(batch.slice(index, 1))
        return Partitions(parts, self._count)

    def mapInArrow(self, work, schema):  # noqa: N802
        return Partitions([list(work(iter(part))) for part in self._parts], self._count)

    def collect(self):
        rows = (row for part in self._parts for batch in part for row in batch.to_pylist())
        return [type("Row", (), row) for row in rows]


class World:
    """One query's lake, states and settings; `processor` is a run of its driver."""

    def __init__(self, folder, server, name, *, app=APP.where):
        connection = server.connection_string
        self.server, self.query = server, name
        self.settings = Settings(
            _env_file=None,
            home=folder,
            lake=str(folder / "lake"),
            app=str(app),
            **{f"redis_{part}": connection for part in ("green", "blue", "sandbox", "serving", "state")},
        )
        features = load_app(str(app)).features
        self.lake = Lake(LocalObjects(self.settings.lake), features)
        views = tuple(view.name for view in features.streamed)
        self.control = write_control(
            self.lake.objects, (Target(colour=Colour.GREEN, project=f"p_{name}", views=views),)
        )
        self.now = datetime.now(UTC)  # not at import: Redis ends states by a clock of its own
        self.sent, self.reports, self.time = [], [], self.now
        self.fails = False
        self.start = in_a_thread

    def processor(self):
        lease = Lease(self.lake.objects, "stream", holder="test", ttl=timedelta(seconds=10), clock=lambda: self.time)
        self.time += timedelta(seconds=60)
        lease.acquire()
        self.states = StateStore(self.server.client(), self.query)
        newest = last_committed(Lake(self.lake.objects, self.lake.features), f"stream-{self.query}")
        views = make_whole(
            Lake(self.lake.objects, self.lake.features),
            self.query,
            self.states,
            stream=rules_of(self.settings).stream,
            tombstones=Tombstones(b"key"),
            now=self.time,
            newest=newest,
            epoch=lease.epoch,
            counted=True,
        )
        return BatchProcessor(
            self.settings,
            query=self.query,
            lake=self.lake,
            lease=lease,
            states=self.states,
            send=self._send,
            clock=lambda: self.time,
            report=self.reports.append,
            newest=newest,
            views=views,
            joins=ViewJoins(
                self.settings, query=self.query, epoch=lease.epoch, clock=lambda: self.time, start=self.start
            ),
        )

    def _send(self, requests):
        if self.fails:
            raise Killed
        self.sent += [json.loads(request)["request_id"] for request in requests]

    def searches(self, numbers, user="u1"):
        """Return searches of a user, one a second from now on."""
        return searches(numbers, user, at=self.now)

    def stored(self):
        table = Lake(self.lake.objects, self.lake.features).read("events").to_pylist()
        return sorted((row["sequence"], row["verdict"]) for row in table)


def searches(numbers, user="u1", *, at):
    found = []
    for number in numbers:
        document = {
            "schema_version": 1,
            "event_id": str(uuid.UUID(int=number)),
            "user_id": user,
            "type": "search",
            "query": "deep sleep",
            "event_timestamp": (at + timedelta(seconds=number)).isoformat(),
            "platform": "ios",
        }
        arrived = to_micros(at) + number * 1_000_000
        found.append(Record("s0", str(1000 + number), user, arrived, json.dumps(document).encode()))
    return found
