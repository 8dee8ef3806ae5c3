"""A feature that was declared just now is checked everywhere: in the lake, in snapshots, online and by the gate."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.app.entities import user
from stillpoint.app.feature_set import feature_set
from stillpoint.app.records import Feature, Origin, View
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.wellness import content, with_more
from validation.expectations import validate
from validation.suites import snapshot_suite, view_suite

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = 4
UNIT = np.eye(1, EMBEDDING_LENGTH, dtype=np.float32)[0]


@st.composite
def features(draw):
    """Any feature that can be declared, with the clean value and the values that break each of its rules."""
    dtype = draw(st.sampled_from(DType))
    low, high = sorted(draw(st.lists(st.integers(-9, 9), min_size=2, max_size=2)))
    number = dtype in (DType.INT64, DType.FLOAT64)
    numbers = dtype in (DType.INT64S, DType.FLOAT64S)
    minimum, maximum = (draw(st.sampled_from([one, None])) if number or numbers else None for one in (low, high))
    values = ("a", "b") if dtype is DType.STRING and draw(st.booleans()) else None
    null_when = draw(st.sampled_from([None, "now and then"]))
    clean = {
        DType.INT64: low,
        DType.FLOAT64: float(low),
        DType.BOOL: True,
        DType.STRING: "a",
        DType.EMBEDDING: UNIT,
        DType.STRINGS: ["a", "b"],
        DType.INT64S: [low],
        DType.FLOAT64S: [float(low), float(high)],
    }[dtype]
    faults = [None] if null_when is None else []
    if minimum is not None:
        faults.append([*clean, low - 1] if numbers else type(clean)(low - 1))
    if maximum is not None:
        faults.append([*clean, high + 1] if numbers else type(clean)(high + 1))
    if values:
        faults.append("c")
    if dtype is DType.EMBEDDING:
        faults += [UNIT[:-1], UNIT * 2]
    rules = {"dtype": dtype, "minimum": minimum, "maximum": maximum, "values": values, "null_when": null_when}
    return rules, clean, faults


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(features(), min_size=1, max_size=4))
def test_each_fault_that_a_declaration_excludes_is_found_in_lake_and_snapshot(declared):
    made = [
        Feature(name=f"f{number}", unit="", description="", **rules) for number, (rules, _, _) in enumerate(declared)
    ]
    view = View(name="just_declared", entity=user, origin=Origin.DAILY, ttl=None, description="", features=tuple(made))
    faults = [(feature, fault) for feature, (_, _, wrong) in zip(made, declared, strict=True) for fault in wrong]
    count = ROWS + len(faults)
    moments = [NOON + timedelta(seconds=row) for row in range(count)]
    columns = {"user_id": [f"u{row}" for row in range(count)], "event_timestamp": moments, "created_timestamp": moments}
    columns |= {feature.name: [clean] * count for feature, (_, clean, _) in zip(made, declared, strict=True)}
    schema = pa.schema([field.with_nullable(True) for field in feature_columns(view)])
    assert validate(view_suite(view), [pa.table(columns).cast(schema)], at=NOON).passed
    for row, (feature, fault) in enumerate(faults, ROWS):
        columns[feature.name][row] = fault
    spoiled = pa.table(columns).cast(schema)
    found = dict.fromkeys((feature.name for feature in made), 0)
    for failure in validate(view_suite(view), [spoiled], at=NOON).failures():
        found[failure.column.partition("__")[0]] += failure.unexpected
    assert found == {one.name: sum(feature is one for feature, _ in faults) for one in made}
    snapshot = spoiled.append_column("content_id", pa.array(["c"] * count))
    snapshot = snapshot.append_column("label", pa.array([row % 2 for row in range(count)]))
    alone = feature_set([view], item=content)
    failures = validate(snapshot_suite(alone), [snapshot], at=NOON).failures()
    excluded = {feature.name for feature, fault in faults if fault is not None and feature.dtype.is_scalar}
    assert {failure.column for failure in failures} == excluded, "a join may find nothing, and embeddings are left out"


MOOD = '''
"""How a day was."""

from stillpoint.app import DType, user
from stillpoint.app.tables import column, daily_view


@daily_view(
    user,
    column("calm", DType.FLOAT64, unit="share", minimum=0, maximum=1, description="Share of calm minutes."),
)
def mood(day):
    """How a day was."""
    raise NotImplementedError
'''


def test_a_view_that_is_only_declared_is_checked_by_every_command(tmp_path, redis_factory):
    app = with_more(tmp_path, mood=MOOD)
    view = app.features.view("mood")
    lake_folder = tmp_path / "lake"
    lake_folder.mkdir()
    env = {
        **os.environ,
        "STILLPOINT_LAKE": str(lake_folder),
        "STILLPOINT_HOME": str(tmp_path),
        "STILLPOINT_APP": app.where,
    }
    env["STILLPOINT_REDIS_GREEN"] = redis_factory().connection_string
    now = datetime.now(UTC)
    rows = [
        {"user_id": f"u{n}", "event_timestamp": now, "created_timestamp": now, "calm": calm}
        for n, calm in enumerate((0.5, 1.5))
    ]
    table = pa.Table.from_pylist(rows, schema=feature_columns(view))
    lake = Lake(LocalObjects(str(lake_folder)), app.features)
    file = lake.write(feature_dataset(view), now.date(), "m", table)
    lake.commit(Commit(writer="m", sequence=0, at=now, files=(file,)))
    OnlineWriter(connect(env["STILLPOINT_REDIS_GREEN"]), "stillpoint_green").write(ViewLayout.of(view), table)
    for command in (["validate", "lake", "--json"], ["validate", "online", "--colour", "green", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from stillpoint.cli import main; main(sys.argv[1:])", *command],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        (outcome,) = [one for one in json.loads(done.stdout) if one["subject"] == "features/mood"]
        (red,) = [one for one in outcome["findings"] if not one["passed"]]
        assert (red["column"], red["expected"], red["unexpected"], red["examples"]) == (
            "calm",
            "from 0 to 1",
            1,
            ["1.5"],
        )
