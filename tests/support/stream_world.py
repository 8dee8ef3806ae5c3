"""Users for a stream, and the judge that compares what the receiver left behind with the oracle."""

import json
import os
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from ingestion.kinesis_shards import ShardReader
from ingestion.supervisor import Supervisor
from stillpoint.clock import SECOND, system_clock, to_micros
from stillpoint.encoder import WordLlamaEncoder
from stillpoint.events.documents import MalformedEvent
from stillpoint.features.columns import feature_columns, rows_table
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.datasets import feature_dataset
from stillpoint.messages import PredictionRequest
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import encode_rows
from stillpoint.stores.values.times import decode_time
from tests import oracle
from tests.support.wellness import STREAMED_VIEWS, parse

VIEW_OF = {"search": "search_embeddings", "biometric": "biometrics"}


class SimulatedUsers:
    """Makes payloads of users who search, play, leave, walk; with copies, lateness, wrong clocks and rubbish."""

    def __init__(self, count, seed):
        self._random = random.Random(seed)
        self._users = [f"user-{number}" for number in range(count)]
        self._sent = defaultdict(list)

    def some(self, count, now):
        """Return `count` (user, payload) pairs around `now`."""
        return [self._one(now) for _ in range(count)]

    def _one(self, now):
        rng = self._random
        user = rng.choice(self._users)
        chance = rng.random()
        if chance < 0.05 and self._sent[user]:
            return user, rng.choice(self._sent[user])
        if chance < 0.07:
            return user, rng.choice([b"", b"{", b'{"user_id": 7}', bytes(rng.randbytes(40)), b"[" * 500])
        ago = rng.choice([0, 0, 0, 1, 5, 30, 120, 500, 900, 1900])
        if chance < 0.10:
            ago = rng.choice([-50, -540])
        kind = rng.choice(["login", "search", "content_start", "content_exit", "content_complete", "biometric"])
        document = {
            "schema_version": 1,
            "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
            "user_id": user,
            "type": kind,
            "event_timestamp": (now - timedelta(seconds=ago, milliseconds=rng.randrange(900))).isoformat(),
            "platform": "ios",
        }
        if kind == "search":
            document["query"] = rng.choice(["preparing for big exam", "deep sleep", "calm down", "zzxqj"])
        if kind.startswith("content"):
            play = rng.randrange(4)
            document |= {"play_id": f"p{play}", "content_id": f"c{play}", "category": rng.choice(["sleep", "focus"])}
            if kind != "content_start":
                document["position_seconds"] = rng.choice([5.5, 59, 60, 300])
        if kind == "biometric":
            document |= {"heart_rate_bpm": rng.randrange(60, 160), "steps": rng.randrange(0, 120)}
        payload = json.dumps(document).encode()
        self._sent[user].append(payload)
        return user, payload


@contextmanager
def streaming(settings):
    """Run the stream in a thread; yields its supervisor and the reports of its micro-batches."""
    reports = []
    supervisor = Supervisor(settings, clock=system_clock, on_batch=reports.append)
    thread = threading.Thread(target=supervisor.run, daemon=True)
    thread.start()
    try:
        yield supervisor, reports
    finally:
        supervisor.stop()
        thread.join(patience())
        assert not thread.is_alive()


def wait_for(condition, what):
    """Wait until a condition holds."""
    began = time.monotonic()
    while time.monotonic() - began < patience():
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"after {time.monotonic() - began:.0f} s there was still not {what}")


def patience():
    """Return how many seconds without any progress mean that something is broken, on a machine as loaded as this one."""
    return 120 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Watcher:
    """Takes prediction requests off the queue and looks whether their features were readable before them."""

    def __init__(self, sqs, url, client, projects):
        self.requests = Counter()
        self.too_early = []
        self._sqs, self._url, self._client, self._projects = sqs, url, client, projects
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self):
        self._ended.set()
        self._thread.join()

    def drain(self):
        while self._take(0):
            pass

    def _watch(self):
        while not self._ended.is_set():
            self._take(1)

    def _take(self, wait):
        found = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=wait)
        messages = found.get("Messages", [])
        for message in messages:
            request = PredictionRequest.model_validate_json(message["Body"])
            self.requests[request.event_id, str(request.kind)] += 1
            field = b"_ts:" + VIEW_OF.get(request.event_type, "session_bounce_rates").encode()
            for project in self._projects:
                layout = ViewLayout.of(STREAMED_VIEWS[0])
                (key,) = encode_keys(layout, pa.table({"user_id": [request.user_id]}), project)
                stored = self._client.hget(key, field)
                if stored is None or decode_time(stored) < to_micros(request.event_timestamp):
                    self.too_early.append((project, request))
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return len(messages)


def records_of(kinesis, stream, count):
    """Return all `count` records of a stream, each shard's in order."""
    reader = ShardReader(kinesis, stream)
    positions, found = reader.initial("TRIM_HORIZON", now=system_clock()), []
    for _ in range(500):
        records, positions = reader.read(positions, 40_000)
        found += records
        if len(found) >= count:
            break
    assert len(found) == count
    return found


def expected(records, max_event_age_us):
    """Return by the oracle: verdicts by (shard, sequence), events by user, and each view's newest rows as bits."""
    verdicts, events, users = {}, {}, defaultdict(list)
    for record in sorted(records, key=lambda one: int(one.sequence)):
        event = parse(record.data, record.arrived_us)
        if isinstance(event, MalformedEvent):
            verdicts[record.shard, record.sequence] = "quarantined"
        else:
            users[event.arrival.user_id].append((record, event.arrival))
    encoder = WordLlamaEncoder()
    rows = {view.name: {} for view in STREAMED_VIEWS}
    for pairs in users.values():
        found, kept = oracle.verdicts([event for _, event in pairs], max_event_age_us=max_event_age_us)
        for (record, _), verdict, event in zip(pairs, found, kept, strict=True):
            verdicts[record.shard, record.sequence] = verdict
            events[record.shard, record.sequence] = event
        on_time = [event for event, verdict in zip(kept, found, strict=True) if verdict == "on_time"]
        for view in STREAMED_VIEWS:
            mine = oracle.rows(view.name, on_time, encoder.encode)
            rows[view.name] |= {row[:2]: row for row in mine}
    return verdicts, events, rows


def judge(settings, aws, sent, projects, watcher, records=None):
    """Assert that lake, online stores and queue hold exactly what the oracle says of the stream's records.

    They are read from Kinesis again unless they are given.
    """
    records = records or records_of(aws.client("kinesis"), settings.event_stream, sent)
    assert len(records) == sent
    verdicts, events, rows = expected(records, settings.max_event_age * SECOND)

    lake = open_lake(settings)
    stored = lake.read("events", columns=["shard", "sequence", "verdict", "arrived_at"]).to_pylist()
    aside = lake.read("quarantine", columns=["shard", "sequence"]).to_pylist()
    found = [((row["shard"], row["sequence"]), row["verdict"]) for row in stored]
    found += [((row["shard"], row["sequence"]), "quarantined") for row in aside]
    assert Counter(key for key, _ in found).most_common(1)[0][1] == 1, "a record was stored twice"
    assert dict(found) == verdicts
    for row in stored:
        assert to_micros(row["arrived_at"]) == events[row["shard"], row["sequence"]].arrived_us
    sums = Counter()
    for commit in lake.commits():
        for name, count in commit.properties.items():
            if name.startswith("verdict_"):
                sums[name.removeprefix("verdict_")] += count
    assert dict(sums) == dict(Counter(verdicts.values()))
    for view in STREAMED_VIEWS:
        found_rows = oracle.newest(_tuples(lake.read(feature_dataset(view)), view))
        assert {key: oracle.bits(row) for key, row in found_rows.items()} == {
            key: oracle.bits(row) for key, row in rows[view.name].items()
        }
        _judge_online(settings, view, rows[view.name], projects)
    assert not watcher.too_early
    on_time = {e.event_id: e for key, e in events.items() if verdicts[key] == "on_time"}
    for event_id, _ in watcher.requests:
        assert event_id in on_time
    for event in on_time.values():
        if (
            event.type in ("content_exit", "search", "content_complete")
            and event.arrived_us - event.event_us < 60 * SECOND
        ):
            assert watcher.requests[event.event_id, "today"] >= 1, f"no request for {event}"


def _judge_online(settings, view, rows, projects):
    newest = {}
    for (user, us), row in rows.items():
        if user not in newest or us > newest[user][1]:
            newest[user] = row
    layout = ViewLayout.of(view)
    for colour, project in projects.items():
        client = connect(settings.connection(colour))
        encoded = encode_rows(layout, rows_table(view, list(newest.values())), project)
        for index, key in enumerate(encoded.keys):
            wanted = [encoded.events[index], encoded.created[index], *(column[index] for column in encoded.values)]
            assert client.hmget(key, layout.event_field, layout.created_field, *layout.fields) == wanted


def _tuples(table, view):
    schema = feature_columns(view)
    columns = []
    for field in schema:
        column = table[field.name]
        if pa.types.is_timestamp(field.type):
            columns.append(column.cast(pa.int64()).to_pylist())
        elif pa.types.is_list(field.type):
            columns.append([None if v is None else np.array(v, dtype=np.float32) for v in column.to_pylist()])
        else:
            columns.append(column.to_pylist())
    return list(zip(*columns, strict=True))


def now():
    return datetime.now(UTC)
