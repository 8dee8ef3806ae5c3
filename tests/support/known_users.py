"""A lake, a Redis and a stream that know two users in every place that keeps something."""

import gzip
import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion.kinesis_shards import Record
from privacy.erasure.rows import mentions
from privacy.erasure.run import erase
from stillpoint.app.load import load_app
from stillpoint.clock import to_micros
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.served_rows import SERVED_COLUMNS
from tests.support.batch_world import Parts, World
from tests.support.hand_made import hand_made, opted_in
from tests.support.wellness import FEATURES, STREAMED_VIEWS

USER, OTHER = "u1", "u10"
PROJECT = "stillpoint_green"


class Home:
    """A lake, a Redis and a stream that know two users whose ids begin alike, in every place that keeps something."""

    def __init__(self, folder, server, name, app="feature_repo"):
        self.world = World(folder, server, name, app=app)
        self.now = self.world.now
        self.settings, self.lake, self.redis = self.world.settings, self.world.lake, server.client()
        views = tuple(view.name for view in load_app(str(app)).views)
        write_control(self.lake.objects, (Target(colour=Colour.GREEN, project=PROJECT, views=views),))
        self.made = hand_made(self.lake, self.settings, project=PROJECT, users=12)
        opted_in(self.lake, {USER: True, OTHER: True})
        self.processor = self.world.processor()
        broken = [
            Record("s0", f"{90 + n}", user, to_micros(self.now), json.dumps({"user_id": user, "type": "?"}).encode())
            for n, user in enumerate((USER, OTHER))
        ]
        self.batch(0, [*self.world.searches([1, 2], USER), *self.world.searches([3], OTHER), *broken])
        for user in (USER, OTHER):
            self.redis.hset(f"stillpoint:rec:{user}:{Kind.TODAY}:r0001", "recommendation", user)
            self.redis.zadd(f"stillpoint:finished:{user}", {"c1": 1})
            self.redis.set(f"stillpoint:pushed:{user}", "p")
        self.keep("served", SERVED_COLUMNS, [self.served(user) for user in (USER, OTHER)])
        self.keep("mappings/1", None, [self.mapped(user, number) for number, user in enumerate((USER, OTHER))])
        self.snapshot("s1", [USER, OTHER, OTHER])
        self.lake.put_json("reports/check-r0001.json", {"examples": [f"{USER}: 1 instead of 2", f"{OTHER}: 2"]})
        canaries = [{"user_id": user, "sequence_id": 1} for user in (USER, OTHER)]
        self.lake.put_json("releases/r0001/canaries.json", {"mapping_version": 1, "canaries": canaries})

    def batch(self, number, records):
        self.processor.process(Parts(records, 2), number)

    def keep(self, dataset, schema, rows):
        table = pa.Table.from_pylist(rows, schema=schema)
        file = self.lake.write(dataset, self.now.date(), f"kept-{dataset.replace('/', '-')}", table)
        self.lake.commit(Commit(writer=f"kept-{dataset.replace('/', '-')}", sequence=0, at=self.now, files=(file,)))

    def snapshot(self, name, users):
        table = pa.table({"user_id": users, "label": [number % 2 for number in range(len(users))]})
        sink = io.BytesIO()
        pq.write_table(table, sink)
        self.lake.objects.put(f"snapshots/{name}/rows.parquet", sink.getvalue())
        body = {"rows": len(users), "positives": 1, "rows_sha256": hashlib.sha256(sink.getvalue()).hexdigest()}
        self.lake.put_json(f"snapshots/{name}/manifest.json", {"id": name, **body})

    def served(self, user):
        empty = {"items": [], "candidates": [], "scores": [], "views": [], "trigger": None}
        named = {name: f"{name}-{user}" for name in ("request_id", "recommendation_id")}
        rest = {
            "release": "r0001",
            "generation": 1,
            "arm": "a",
            "kind": "today",
            "source": "model",
            "served_at": self.now,
        }
        return {**empty, **named, **rest, "user_id": user}

    def mapped(self, user, number):
        at = {"event_timestamp": self.now, "created_timestamp": self.now}
        return {"user_id": user, **at, "sequence_id": number, "mapping_version": 1}

    def erase(self, user=USER, **options):
        options = {"clock": lambda: datetime.now(UTC), "settle_seconds": 0.0, "wait_seconds": 10.0, **options}
        return erase(self.settings, Lake(self.lake.objects, self.lake.features), user, **options)

    def found(self, user):
        """Return every file of the home and every key of Redis that still mentions a user, compressed columns included."""
        word = mentions(user)
        traces = []
        for path in Path(self.lake.root).rglob("*"):
            if not path.is_file():
                continue
            key, data = str(path.relative_to(self.lake.root)), path.read_bytes()
            data = gzip.decompress(data) if key.startswith("sagemaker/") else data
            if key.endswith(".parquet") and not key.endswith("torn.parquet"):
                data = str(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
            if word.search(data) or word.search(key.encode()):
                traces.append(key)
        for key in self.redis.scan_iter():
            kind = self.redis.type(key)
            value = self.redis.hgetall(key) if kind == b"hash" else b""
            if word.search(key) or word.search(str(value).encode()) or f"{user}{PROJECT}".encode() in key:
                traces.append(key)
        return traces

    def kept(self, user):
        """Return all that is known of a user in the lake and online."""
        lake = Lake(self.lake.objects, FEATURES)
        rows = {
            name: sorted(map(str, lake.read(name).filter(pc.equal(lake.read(name)["user_id"], user)).to_pylist()))
            for name in ("events", "served", "mappings/1", "users", *(f"features/{v.name}" for v in STREAMED_VIEWS))
        }
        online = {key: self.redis.dump(key) for key in self.redis.scan_iter() if user.encode() in key}
        return rows, online
