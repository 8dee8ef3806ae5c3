"""Parity finds nothing on what was really served, and each planted fault; stream driver, lake and Redis are real."""

import json
from datetime import timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from inference.ranking.user_features import UserReading
from release.checks.validated_data import ServedParity
from release.gate import Subject, Thresholds
from stillpoint.clock import from_micros, to_micros
from stillpoint.encoder import WordLlamaEncoder
from stillpoint.features.streamed.history import AppHistory
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.served_rows import SERVED_COLUMNS
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.connection import connect
from tests.support.batch_world import Parts, World
from tests.support.wellness import APP, FEATURES, STREAMED_VIEWS
from validation.parity_run import check_parity

PROJECT = "stillpoint_green"
USERS = UserReading(FEATURES)
ENCODER = WordLlamaEncoder()


class Serving:
    """A stream that has read some searches, and what was served after each of them."""

    def __init__(self, folder, server, name):
        self.world = World(folder, server, name)
        self.lake = self.world.lake
        views = tuple(view.name for view in STREAMED_VIEWS)
        write_control(self.lake.objects, (Target(colour=Colour.GREEN, project=PROJECT, views=views),))
        self.processor = self.world.processor()
        self.reader = OnlineReader(connect(server.connection_string), ReadPlan.of_features(PROJECT, FEATURES))
        self.records = []
        self.batches = 0
        for seconds, user in ((1, "a"), (2, "b"), (40, "a"), (75, "b")):
            self.search(seconds, user)
            for one in ("a", "b", "nobody"):
                self.serve(one, seconds + 1)

    def search(self, seconds, user):
        self.processor.process(Parts(self.world.searches([seconds], user), 1), self.batches)
        self.batches += 1

    def serve(self, user, seconds):
        at = self.world.now + timedelta(seconds=seconds)
        columns = self.reader.read(USERS.names, {"user_id": [user]}, now_us=to_micros(at))
        views = [dict(view) for view in USERS.decode_one(columns).views]
        self.records.append({"user_id": user, "served_at": at, "views": views})
        return self.records[-1]

    def check(self, **options):
        return check_parity(self.keep(), at=self.world.now, history=AppHistory(APP, ENCODER), **options)

    def gate(self):
        """Return what the release gate says of it, with `r` as the live release."""
        live = SimpleNamespace(release=SimpleNamespace(id="r"))
        thresholds = Thresholds(digest_reads=1, served_lag_seconds=5)
        subject = Subject(
            candidate=live,
            live=live,
            lake=self.keep(),
            thresholds=thresholds,
            now=self.world.now,
            now_us=to_micros(self.world.now),
            seed=7,
            app=APP,
        )
        return ServedParity().run(subject)

    def keep(self):
        """Write the served log, and return the lake as somebody else reads it."""
        empty = {"items": [], "candidates": [], "scores": [], "trigger": None}
        rest = {"release": "r", "generation": 1, "arm": "a", "kind": "today", "source": "model"}
        rows = [
            {**empty, **rest, "request_id": str(n), "recommendation_id": str(n), **record}
            for n, record in enumerate(self.records)
        ]
        table = pa.Table.from_pylist(rows, schema=SERVED_COLUMNS)
        lake = Lake(self.lake.objects, FEATURES)
        if rows:
            file = lake.write("served", self.world.now.date(), "served", table)
            lake.commit(Commit(writer="served", sequence=0, at=self.world.now, files=(file,)))
        return lake

    def view(self, number, name="search_embeddings"):
        """Return one record's logged view, to be tampered with."""
        return next(view for view in self.records[number]["views"] if view["view"] == name)


@pytest.fixture
def serving(tmp_path, redis_server, redis_factory, unique):
    return Serving(tmp_path, redis_factory(), unique)


def red(report):
    return {one.feature: one for one in report.features if one.mismatched + one.missing + one.extra}


def test_what_was_really_served_is_explained_to_the_last_bit(serving):
    report = serving.check()
    assert report.passed
    assert (report.predictions, report.users, report.unexplained, report.stale) == (12, 3, 0, 0)
    compared = {one.feature: one.equal for one in report.features}
    assert compared["search_embeddings:search_embedding"] == 12
    assert compared["session_bounce_rates:session_bounce_rate"] == 12


def test_rounding_is_found_with_the_difference(serving):
    view = serving.view(-2)
    values = json.loads(view["values"])
    values["search_embedding"][3] += 2.0**-10
    view["values"] = json.dumps(values)
    found = red(serving.check())
    assert set(found) == {"search_embeddings:search_embedding"}
    assert found["search_embeddings:search_embedding"].largest_difference == pytest.approx(2.0**-10, rel=1e-3)


def test_a_shifted_clock_is_found(serving):
    view = serving.view(-2)
    view["event_timestamp"] += timedelta(milliseconds=1)
    found = red(serving.check())
    assert all(one.feature.startswith("search_embeddings:") and one.extra == 1 for one in found.values())
    assert "no event explains the row" in found["search_embeddings:search_embedding"].examples[0]


def test_a_row_of_somebody_else_is_found(serving):
    serving.records[-3]["views"], serving.records[-2]["views"] = (
        serving.records[-2]["views"],
        serving.records[-3]["views"],
    )
    found = red(serving.check())
    assert found["search_embeddings:search_embedding"].extra == 2


@pytest.mark.parametrize(("seconds", "stale"), [(3, 0), (9, 3)])
def test_a_stale_cache_is_found_as_lag_beyond_the_limit(serving, seconds, stale):
    old = serving.records[-3]
    serving.search(100, "a")
    serving.records.append({**old, "served_at": serving.world.now + timedelta(seconds=100 + seconds)})
    report = serving.check()
    assert (report.passed, report.unexplained, report.stale) == (not stale, 0, min(stale, 2))
    assert (report.lagging, report.longest_lag_seconds) == (2, seconds)


def test_a_wrong_time_to_live_is_found(serving):
    serving.records[-2]["served_at"] += timedelta(days=30)
    found = red(serving.check())
    assert "served 30 days" in found["search_embeddings:search_embedding"].examples[0]


def test_features_that_were_not_served_although_they_had_arrived_are_found(serving):
    empty = serving.serve("nobody", 90)
    empty["user_id"] = "a"
    found = red(serving.check())
    assert found["search_embeddings:search_embedding"].missing == 1
    assert "256 numbers had arrived" in found["search_embeddings:search_embedding"].examples[0]


def test_nothing_served_is_not_a_pass(serving):
    serving.records.clear()
    report = serving.check()
    assert (report.predictions, report.passed) == (0, False)


def test_times_survive_the_log(serving):
    assert serving.view(-2)["created_timestamp"] == from_micros(to_micros(serving.world.now) + 75 * 1_000_000)


def test_the_gate_passes_what_was_really_served(serving):
    found = serving.gate()
    assert found.passed
    assert found.found == "0 unexplained differences and 0.0% of rows too far behind in 12 predictions of 3 users by r"


def test_the_gate_refuses_a_live_release_that_rounds_or_serves_what_is_stale(serving):
    view = serving.view(-2)
    values = json.loads(view["values"])
    values["search_embedding"][3] += 2.0**-10
    view["values"] = json.dumps(values)
    old = serving.records[-3]
    serving.search(100, "a")
    serving.records += [{**old, "served_at": serving.world.now + timedelta(seconds=110)}] * 3
    found = serving.gate()
    assert not found.passed
    assert found.found.startswith("1 unexplained differences and 6.7% of rows too far behind in 15 predictions")
    assert found.examples[0].startswith("search_embeddings:search_embedding b, ")
    assert found.examples[-1].endswith("10.0 s behind what had arrived")
