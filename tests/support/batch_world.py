"""A stream's micro-batches on a real lake and Redis, without Spark: the driver's half calls the executors' directly."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from ingestion.kinesis_shards import Record
from ingestion.process_batch import BatchProcessor
from ingestion.rebuild import last_committed
from ingestion.state_store import StateStore
from stillpoint.clock import to_micros
from stillpoint.features.declarations import STREAMED_VIEWS
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import Lease
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.settings import Settings

NOW = datetime.now(UTC)


class Killed(Exception):
    """Stands for the end of a process."""


class Parts:
    """Stands for Spark's data frame: the records in as many partitions as asked, by user."""

    def __init__(self, records, count):
        self._records, self._count = records, count

    def repartition(self, *_):
        return self

    def mapInArrow(self, work, schema):  # noqa: N802
        self._work = work
        return self

    def collect(self):
        found = []
        for part in range(self._count):
            own = [r for r in self._records if hash(r.partition_key) % self._count == part]
            if own:
                columns = [pa.array(list(column)) for column in zip(*own, strict=True)]
                batch = pa.RecordBatch.from_arrays(columns, names=list(Record._fields))
                for reply in self._work(iter([batch])):
                    found += [type("Row", (), row) for row in reply.to_pylist()]
        return found


class World:
    """One query's lake, states and settings; `processor` is a run of its driver."""

    def __init__(self, folder, server, name):
        connection = server.connection_string
        self.server, self.query = server, name
        self.settings = Settings(
            _env_file=None,
            home=folder,
            lake=str(folder / "lake"),
            **{f"redis_{part}": connection for part in ("green", "blue", "sandbox", "serving", "state")},
        )
        self.lake = Lake(LocalObjects(self.settings.lake))
        views = tuple(view.name for view in STREAMED_VIEWS)
        write_control(self.lake.objects, (Target(colour=Colour.GREEN, project=f"p_{name}", views=views),))
        self.sent, self.reports, self.time = [], [], NOW
        self.fails = False

    def processor(self):
        lease = Lease(self.lake.objects, "stream", holder="test", ttl=timedelta(seconds=10), clock=lambda: self.time)
        self.time += timedelta(seconds=60)
        lease.acquire()
        self.states = StateStore(self.server.client(), self.query)
        return BatchProcessor(
            self.settings,
            query=self.query,
            lake=self.lake,
            lease=lease,
            states=self.states,
            send=self._send,
            clock=lambda: self.time,
            report=self.reports.append,
            newest=last_committed(Lake(self.lake.objects), f"stream-{self.query}"),
        )

    def _send(self, requests):
        if self.fails:
            raise Killed
        self.sent += [json.loads(request)["request_id"] for request in requests]

    def stored(self):
        table = Lake(self.lake.objects).read("events").to_pylist()
        return sorted((row["sequence"], row["verdict"]) for row in table)


def searches(numbers, user="u1", *, at=NOW):
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
