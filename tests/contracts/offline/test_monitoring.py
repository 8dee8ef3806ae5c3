"""`feast monitor run` computes and keeps the numbers that stock Feast's default store computes from the same files."""

import json
import logging
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from feast import FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.cli.cli import cli
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.monitoring.monitoring_service import MonitoringService
from feast.repo_config import RepoConfig
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stillpoint.errors import CorruptData, InvalidInput
from stillpoint.stores.history.metrics import metric
from tests.support.plays import USER, at, source_table

UTC_TIME = pa.timestamp("us", tz="UTC")
OURS = "stillpoint.stores.offline.StillpointOfflineStore"
FIELDS = [
    Field(name="user_id", dtype=String),
    *(Field(name=name, dtype=kind) for name, kind in (("n", Int64), ("small", Int32), ("x", Float64), ("y", Float32))),
    *(Field(name=name, dtype=kind) for name, kind in (("word", String), ("flag", Bool), ("gone", Float64))),
]


def rows(count=400):
    random = np.random.default_rng(7)
    words = random.choice(["calm", "sleep", "focus", *(f"w{number}" for number in range(20))], count).tolist()
    return pa.table(
        {
            "user_id": [f"u{number % 50}" for number in range(count)],
            "event_timestamp": pa.array([at(-number * 7) for number in range(count)], UTC_TIME),
            "n": pa.array([None if number % 9 == 0 else number**2 for number in range(count)], pa.int64()),
            "small": pa.array([7] * count, pa.int32()),
            "x": random.normal(size=count),
            "y": pa.array(random.random(count), pa.float32()),
            "word": pa.array([None if number % 13 == 0 else word for number, word in enumerate(words)], pa.string()),
            "flag": pa.array([number % 3 == 0 for number in range(count)]),
            "gone": pa.array([None] * count, pa.float64()),
        }
    )


def monitored(folder, offline, *, mapping=None, fields=FIELDS):
    """Open a store in a folder of its own over `rows.parquet` there."""
    store = FeatureStore(
        config=RepoConfig(
            project="monitored",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            offline_store={"type": offline},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )
    source = FileSource(name="s", path="rows.parquet", timestamp_field="event_timestamp", field_mapping=mapping or {})
    view = FeatureView(name="v", entities=[USER], ttl=timedelta(days=9), schema=fields, source=source)
    store.apply([USER, view, FeatureService(name="service", features=[view])])
    return store


@pytest.fixture
def both(tmp_path):
    stores = []
    for name, offline in (("ours", OURS), ("stock", "dask")):
        (tmp_path / name).mkdir()
        pq.write_table(rows(), tmp_path / name / "rows.parquet")
        stores.append(monitored(tmp_path / name, offline))
    return stores


def kept(store, metric_type, **filters):
    found = store._get_provider().offline_store.query_monitoring_metrics(
        store.config, "monitored", metric_type, filters
    )
    key = lambda row: json.dumps([row[name] for name in sorted(row) if name.endswith("_name")] + [row["granularity"]])  # noqa: E731
    return sorted(({**row, "computed_at": "…"} for row in found), key=key)


def test_automatic_metrics_of_all_granularities_are_stocks(both):
    ours, stock = both
    results = [MonitoringService(store).auto_compute() for store in both]
    for result in results:
        result.pop("duration_ms")
    assert results[0] == results[1]
    assert results[0]["computed_features"] == 5 * 7
    assert results[0]["baseline_features"] == 7
    for metric_type in ("feature", "feature_view", "feature_service"):
        assert kept(ours, metric_type) == kept(stock, metric_type)


def test_metrics_of_given_days_are_stocks_and_replace_those_that_were_kept(both):
    arguments = {"project": "monitored", "start_date": date(2026, 2, 1), "end_date": date(2026, 2, 20)}
    for store in both:
        for baseline in (True, False, True):
            MonitoringService(store).compute_metrics(**arguments, granularity="weekly", set_baseline=baseline)
    assert kept(both[0], "feature") == kept(both[1], "feature")
    assert len(kept(both[0], "feature")) == 7
    assert kept(both[0], "feature", is_baseline=True) == kept(both[1], "feature", is_baseline=True)


def test_metrics_that_are_not_kept_are_stocks(both):
    found = [
        MonitoringService(store).compute_transient(
            "monitored", "v", start_date=date(2025, 12, 1), end_date=date(2026, 3, 1)
        )
        for store in both
    ]
    assert found[0]["metrics"] == found[1]["metrics"]
    assert found[0]["metrics"][0]["row_count"] > 300


def test_jobs_are_kept_through_their_states(both):
    for store in both:
        service = MonitoringService(store)
        job = service.submit_job("monitored", "auto_compute", parameters={"note": "x"})
        assert service.get_job(job)["status"] == "pending"
        service.execute_job(job)
        done = service.get_job(job, project="monitored")
        assert (done["status"], done["parameters"], done["result_summary"]["status"]) == (
            "completed",
            {"note": "x"},
            "completed",
        )
        assert service.get_job(job, project="other") is None


def test_either_store_reads_and_extends_what_the_other_kept(both, tmp_path):
    ours, stock = both
    for store in both:
        MonitoringService(store).auto_compute()
    for name in ("feature", "feature_view", "feature_service"):
        file = f"feast_monitoring/feast_monitoring_{name}_metrics.parquet"
        kept_by_ours, kept_by_stock = (tmp_path / folder / file for folder in ("ours", "stock"))
        exchanged = kept_by_ours.read_bytes()
        kept_by_ours.write_bytes(kept_by_stock.read_bytes())
        kept_by_stock.write_bytes(exchanged)
        assert kept(ours, name) == kept(stock, name)
    for store in both:
        MonitoringService(store).compute_metrics("monitored", start_date=date(2026, 1, 1), set_baseline=True)
    assert kept(ours, "feature") == kept(stock, "feature")


def test_a_mapped_feature_and_a_mapped_time_are_found(tmp_path):
    stored = rows(40).rename_columns(["user_id", "ts", "count", "small", "x", "y", "word", "flag", "gone"])
    pq.write_table(stored, tmp_path / "rows.parquet")
    mapping = {"ts": "event_timestamp", "count": "n"}
    store = monitored(tmp_path, OURS, mapping=mapping)
    result = MonitoringService(store).auto_compute()
    assert result["baseline_features"] == 7
    assert store._get_provider().offline_store.get_monitoring_max_timestamp(
        store.config, store.get_feature_view("v").batch_source, "event_timestamp"
    ) == at(0)


def test_a_list_has_no_metrics_and_the_log_says_so_while_its_neighbours_have(tmp_path, caplog):
    table = rows(40).append_column("vector", pa.array([[1.0, 2.0]] * 40)).drop_columns(["y"])
    pq.write_table(table, tmp_path / "rows.parquet")
    store = monitored(tmp_path, OURS, fields=[*FIELDS, Field(name="vector", dtype=Array(Float64))])
    with caplog.at_level(logging.WARNING):
        assert MonitoringService(store).auto_compute()["baseline_features"] == 6
    assert "no metrics of feature 'vector': source 's' holds list<" in caplog.text
    assert "no metrics of feature 'y': source 's' holds no such column" in caplog.text


def test_the_command_computes_metrics_of_views_and_of_serving_logs(tmp_path, monkeypatch):
    pq.write_table(rows(40), tmp_path / "rows.parquet")
    (tmp_path / "feature_store.yaml").write_text(
        "project: monitored\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
        f"online_store: {{type: sqlite, path: online.db}}\noffline_store: {{type: {OURS}}}\n"
    )
    store = FeatureStore(repo_path=str(tmp_path))
    view = FeatureView(
        name="v",
        entities=[USER],
        schema=FIELDS[:2],
        source=FileSource(name="s", path="rows.parquet", timestamp_field="event_timestamp"),
    )
    destination = FileLoggingDestination(path="logs")
    service = FeatureService(name="service", features=[view], logging_config=LoggingConfig(destination=destination))
    store.apply([USER, view, service])

    def run(*arguments):
        found = CliRunner().invoke(cli, ["-c", str(tmp_path), "monitor", "run", *arguments], catch_exceptions=False)
        assert found.exit_code == 0
        return found.output

    assert "Feature services computed: 0" in run("--source-type", "log")
    assert "Features computed: 5\n" in run()
    assert "Baseline: SET" in run("--set-baseline")
    assert "Features computed: 1\n" in run("--start-date", "2026-01-01", "--end-date", "2026-03-01", "-g", "daily")
    log = source_table([("u1", at(0), at(0), 3)]).rename_columns(["user_id", "__log_timestamp", "__request_id", "v__n"])
    store._get_provider().write_feature_service_logs(service, log, store.config, store.registry)
    assert "Feature services computed: 1" in run("--source-type", "log")


def test_a_source_without_a_file_is_skipped_and_a_wrong_one_is_named(tmp_path):
    pq.write_table(rows(4), tmp_path / "rows.parquet")
    store = monitored(tmp_path, OURS)
    offline, source = store._get_provider().offline_store, store.get_feature_view("v").batch_source
    with pytest.raises(InvalidInput, match=r"source 's' at .* has no column 'when'"):
        offline.get_monitoring_max_timestamp(store.config, source, "when")
    (tmp_path / "rows.parquet").unlink()
    assert offline.get_monitoring_max_timestamp(store.config, source, "event_timestamp") is None


def test_metrics_that_cannot_be_read_are_named_and_not_overwritten(tmp_path):
    pq.write_table(rows(4), tmp_path / "rows.parquet")
    store = monitored(tmp_path, OURS)
    service = MonitoringService(store)
    service.compute_baseline()
    broken = tmp_path / "feast_monitoring" / "feast_monitoring_feature_metrics.parquet"
    broken.write_bytes(b"PAR1 half")
    with pytest.raises(CorruptData, match=r"feast_monitoring_feature_metrics\.parquet cannot be read"):
        service.get_baseline("monitored")
    assert broken.read_bytes() == b"PAR1 half"
    with pytest.raises(InvalidInput, match="have no column colour"):
        store._get_provider().offline_store.query_monitoring_metrics(store.config, "", "job", {"colour": "red"})


@settings(max_examples=500, deadline=None)
@example(pa.chunked_array([pa.array([1.7e308, -1.7e308, 1.0])]))
@example(pa.chunked_array([pa.array([1e16, 1e16 + 2])]))
@example(pa.chunked_array([pa.array([2**53 + 1, None, 2**63 - 1], pa.int64())]))
@given(
    st.one_of(
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)).map(
            lambda v: pa.chunked_array([pa.array(v, pa.int64())])
        ),
        st.lists(st.none() | st.floats()).map(lambda v: pa.chunked_array([pa.array(v, pa.float64())])),
        st.lists(st.none() | st.decimals(-(10**9), 10**9, places=2)).map(
            lambda v: pa.chunked_array([pa.array(v, pa.decimal128(12, 2))])
        ),
    )
)
def test_any_numbers_have_metrics_that_json_can_hold_and_counts_that_add_up(column):
    found = metric("f", "numeric", column, bins=20, top=10)
    json.dumps(found, allow_nan=False)
    finite = [float(v) for v in column.to_pylist() if v is not None and np.isfinite(float(v))]
    assert (found["row_count"], found["null_count"]) == (len(column), column.null_count)
    if finite:
        assert (found["min_val"], found["max_val"]) == (min(finite), max(finite))
        if np.isfinite(max(finite) - min(finite)):
            assert sum(found["histogram"]["counts"]) == len(finite)
        else:
            assert found["histogram"] is None
    else:
        assert found["histogram"] is None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.none() | st.text(max_size=2)),
    st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]),
)
def test_any_texts_are_counted_whole(texts, kind):
    found = metric("f", "categorical", pa.chunked_array([pa.array(texts, pa.string()).cast(kind)]), bins=20, top=3)
    json.dumps(found)
    if any(text is not None for text in texts):
        histogram = found["histogram"]
        total = sum(entry["count"] for entry in histogram["values"]) + histogram["other_count"]
        assert total == len(texts) - texts.count(None)
        assert histogram["unique_count"] == len(set(texts) - {None})


def test_bytes_are_counted_as_text():
    found = metric("f", "categorical", pa.chunked_array([pa.array([b"a", b"\xff"], pa.binary())]), bins=20, top=3)
    assert [entry["value"] for entry in found["histogram"]["values"]] == ["a", "\\xff"]
