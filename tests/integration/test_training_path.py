"""A model trained on a leak-free snapshot reacts as users do; simulator, lake, Feast and training are all real."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from release.aliases import tell_mlflow
from release.set_aliases import AliasClient, set_aliases
from stillpoint.app.entities import user
from stillpoint.clock import DAY, HOUR, to_micros
from stillpoint.dtypes import DType
from stillpoint.errors import AlreadyExists, InvalidInput
from stillpoint.features.request_time import compute
from stillpoint.lake.datasets import DateRange
from stillpoint.local.process import Child, free_port
from stillpoint.local.servers import servers
from stillpoint.model import ModelBundle
from stillpoint.registered_models import MODEL_NAME
from stillpoint.settings import Settings
from stillpoint.snapshots import load_snapshot
from tests.support.training_world import CUTOFF, ENCODER, START, World, make_world
from tests.support.wellness import CONTENT_PROFILES, FEATURES, STREAMED_VIEWS, VIEWS
from training.collaborative import next_mapping_version, write_mapping
from training.registered_model import score_frame
from training.snapshot import make_snapshot
from training.tracking import input_example, track
from training.train import keep, train
from validation.drift_page import page
from validation.drift_run import check_drift

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tracked:
    """A tracking server's address and a run that it knows."""

    uri: str
    run: str


@pytest.fixture(scope="module")
def trained_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), expect=True)


@pytest.fixture(scope="module")
def world(trained_world: World) -> World:
    return trained_world


def test_snapshot_has_one_row_per_shown_item_and_keeps_its_id_and_bytes(world: World) -> None:
    manifest = world.snapshot.manifest
    assert world.snapshot.rows.num_rows == manifest.rows > 50_000
    assert manifest.data == "simulated"
    path = f"snapshots/{manifest.id}/rows.parquet"
    before = world.lake.objects.get(path)
    again = make_snapshot(world.lake, world.store, cutoff=CUTOFF, encoder_sha256=ENCODER.sha256)
    assert again.manifest == manifest
    assert world.lake.objects.get(path) == before
    assert load_snapshot(world.lake, manifest.id).rows.equals(world.snapshot.rows)


def test_a_manifest_names_the_files_that_were_read_the_moments_and_what_was_expected(world: World) -> None:
    manifest = world.snapshot.manifest
    assert manifest.as_of_first is not None
    assert manifest.as_of_last is not None
    assert manifest.as_of_first < manifest.as_of_last <= CUTOFF - manifest.label.settle
    assert manifest.sources is not None
    listed = world.lake.get_json(manifest.sources.files)
    for dataset in ("events", *(f"features/{view.name}" for view in STREAMED_VIEWS)):
        assert listed[dataset] == [file.path for file in world.lake.files(dataset, DateRange(None, CUTOFF.date()))]
        assert manifest.sources.counts[dataset] > 0
    digest = hashlib.sha256(world.lake.objects.get(manifest.sources.files)).hexdigest()
    assert digest == manifest.sources.files_sha256
    assert manifest.expectations is not None
    assert all(one.passed for one in manifest.expectations)
    assert {"label", "heart_rate_mean_10m", "tenure_level"} <= {one.column for one in manifest.expectations}
    assert {one.checked for one in manifest.expectations if one.column == "label"} >= {manifest.rows}


def test_features_of_a_row_were_known_when_it_was_shown(world: World) -> None:
    rows = world.snapshot.rows
    for view in STREAMED_VIEWS:
        age = rows[f"{view.name}_age"].drop_null()
        assert len(age) > 100
        assert pc.min(age).as_py() >= 0
        assert pc.max(age).as_py() <= view.max_age_seconds


def test_same_snapshot_gives_the_same_model_bytes(world: World) -> None:
    again = train(world.lake, world.snapshot, mapping_version=1, seed=7, with_baselines=False)
    assert again.bundle.manifest.ranker_sha256 == world.trained.bundle.manifest.ranker_sha256
    assert again.bundle.manifest.factors_sha256 == world.trained.bundle.manifest.factors_sha256


def test_ranker_beats_its_baselines_and_stays_below_the_true_preference(world: World) -> None:
    everybody = world.trained.evaluation.results["all"]
    for weaker in ("without_real_time", "popularity", "collaborative"):
        assert everybody[weaker]["ndcg_lift"].high < 0, weaker
    assert everybody["true_preference"]["ndcg_lift"].low > 0
    assert world.trained.evaluation.calibration_error < 0.03


@pytest.mark.usefixtures("trained_world")
def test_without_context_effect_real_time_features_show_no_lift(tmp_path: Path) -> None:
    still = make_world(tmp_path, context_effect=False)
    lift = still.trained.evaluation.results["all"]["without_real_time"]["ndcg_lift"]
    assert lift.low <= 0.01
    assert lift.high >= -0.01


def ranks(bundle: ModelBundle, world: World, sequence_id: int | None = None, **changes: Any) -> Mapping[str, float]:
    """Return the mean score of each category, and of sleep stories, for a usual user in a changed situation."""
    contents = world.lake.read("features/content_profiles")
    newest = contents.filter(pc.equal(contents["event_timestamp"], pc.max(contents["event_timestamp"])))
    columns: dict[str, np.ndarray] = {}
    for view in VIEWS:
        for feature in view:
            if view.entity == user and feature.dtype is not DType.EMBEDDING:
                columns[feature.name] = np.array([None] if feature.dtype is DType.STRING else [np.nan], dtype=object)
                if feature.dtype is not DType.STRING:
                    columns[feature.name] = columns[feature.name].astype(float)
        columns[f"{view.name}_age_seconds"] = np.array([np.nan])
    for feature in CONTENT_PROFILES:
        values = newest[feature.name]
        if feature.dtype is DType.EMBEDDING:
            columns[feature.name] = np.array(values.to_pylist(), dtype=np.float32)
        elif feature.dtype is DType.STRING:
            columns[feature.name] = np.array(values.to_pylist(), dtype=object)
        else:
            columns[feature.name] = values.cast(pa.float64()).to_numpy()
    columns["search_embedding"] = np.full((1, 256), np.nan, dtype=np.float32)
    for name in [name for name in columns if name.startswith("plays_30d_")]:
        columns[name] = np.array([3.0])
        columns[name.replace("plays", "completion_rate")] = np.array([0.6])
    known = {"tenure_days": 200.0, "subscribed": 1.0, "session_play_count": 0.0, "session_sleep_play_count": 0.0}
    known |= {"session_age_seconds": 60.0, "session_bounce_rates_age_seconds": 20.0}
    columns |= {name: np.array([value]) for name, value in known.items()}
    content_ids = newest["content_id"].to_pylist()
    columns["tenure_level"] = np.array(["regular"], dtype=object)
    columns["request_timestamp_us"] = np.array([to_micros(CUTOFF) + DAY + 20 * HOUR])
    columns |= {name: np.atleast_1d(np.asarray(value)) for name, value in changes.items() if name != "search_embedding"}
    if "search_embedding" in changes:
        columns["search_embedding"] = changes["search_embedding"]
    columns |= compute(columns, FEATURES.request_features)
    scores = bundle.score(bundle.select(columns, content_ids), content_ids=content_ids, sequence_id=sequence_id)
    category = columns["category"]
    story = (category == "sleep") & (columns["duration_seconds"] > 26 * 60) & (columns["duration_seconds"] < 44 * 60)
    place = scores.argsort().argsort() / len(scores)
    found = {str(name): float(place[category == name].mean()) for name in set(category)}
    return found | {
        "story": float(place[story].mean()),
        "other sleep": float(place[(category == "sleep") & ~story].mean()),
    }


def test_search_for_an_exam_raises_focus(world: World) -> None:
    before = ranks(world.trained.bundle, world)
    searched = ENCODER.encode(["preparing for big exam"])
    after = ranks(
        world.trained.bundle,
        world,
        search_embedding=searched,
        search_count_24h=1.0,
        search_embeddings_age_seconds=20.0,
    )
    assert after["focus"] > before["focus"] + 0.1
    assert after["focus"] == max(after[name] for name in ("focus", "move", "music", "meditate", "stress", "sleep"))


def test_abandoned_sleep_stories_give_way_to_other_sleep_content(world: World) -> None:
    before = ranks(world.trained.bundle, world)
    after = ranks(
        world.trained.bundle,
        world,
        session_play_count=3.0,
        session_sleep_play_count=3.0,
        session_bounce_rate=1.0,
        session_sleep_bounce_rate=1.0,
        session_age_seconds=240.0,
    )
    assert after["story"] < before["story"]
    assert after["other sleep"] > before["other sleep"] + 0.05
    assert after["other sleep"] - after["story"] > before["other sleep"] - before["story"] + 0.1
    assert after["music"] > max(before["music"], after["story"])


def test_rising_pulse_and_steps_raise_move(world: World) -> None:
    before = ranks(world.trained.bundle, world)
    after = ranks(
        world.trained.bundle,
        world,
        heart_rate_mean_10m=92.0,
        heart_rate_slope_10m=3.5,
        steps_sum_10m=500.0,
        steps_trend_10m=200.0,
        exertion_rising=1.0,
        biometrics_age_seconds=10.0,
    )
    assert after["move"] > before["move"] + 0.1
    assert after["move"] > after["sleep"]


def test_kept_model_is_found_by_its_digest_with_its_mapping(world: World) -> None:
    key = keep(world.lake, world.trained, cutoff=CUTOFF)
    assert keep(world.lake, world.trained, cutoff=CUTOFF) == key
    loaded = ModelBundle.load(world.lake.objects.get(key), expected_sha256=world.trained.bundle.sha256)
    assert loaded.manifest.snapshot_id == world.snapshot.manifest.id
    mapping = world.lake.read("mappings/1")
    assert mapping.num_rows == loaded.user_count
    assert set(mapping["sequence_id"].to_pylist()) == set(range(loaded.user_count))
    assert next_mapping_version(world.lake) == 2
    other = replace(world.trained.factors, user_ids=world.trained.factors.user_ids[::-1])
    with pytest.raises(AlreadyExists, match="is taken by another mapping"):
        write_mapping(world.lake, other.user_ids, mapping_version=1, cutoff=CUTOFF)


@pytest.fixture(scope="module")
def tracked(world: World, tmp_path_factory: pytest.TempPathFactory, programs: None) -> Iterator[Tracked]:
    """A tracking server as the embedded stack starts it, which knows the world's model."""
    folder = tmp_path_factory.mktemp("mlflow")
    settings = Settings(
        _env_file=None, home=folder, mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}", mlflow_experiment="t"
    )
    server = next(one for one in servers(settings) if one.name == "mlflow")
    server.folder.mkdir()
    child = Child("mlflow", server.command(), log=folder / "mlflow.log", environment=server.environment)
    try:
        child.wait_until(lambda: server.version() is not None, seconds=server.seconds)
        yield Tracked(
            settings.mlflow_tracking_uri,
            track(settings, world.snapshot, world.trained.bundle, world.trained.evaluation),
        )
    finally:
        child.stop()


SCORE_IN_A_FRESH_PROCESS = """
import sys
# Nothing of the checkout: what MLflow kept has to be enough.
sys.path[:] = [path for path in sys.path if path not in ("", CHECKOUT)]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/stillpoint-ranker@candidate")
print(model.predict(pandas.read_parquet(EXAMPLE)).tolist())
import stillpoint
print(stillpoint.__file__)
"""


def test_a_registered_model_scores_in_a_fresh_process_with_nothing_but_mlflow(
    world: World, tracked: Tracked, tmp_path: Path
) -> None:
    example = input_example(world.snapshot, world.trained.bundle)
    example.to_parquet(tmp_path / "example.parquet")
    program = f"CHECKOUT, EXAMPLE = {str(CHECKOUT)!r}, {str(tmp_path / 'example.parquet')!r}{SCORE_IN_A_FRESH_PROCESS}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": tracked.uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scores, module = done.stdout.splitlines()[-2:]
    assert not module.startswith(str(CHECKOUT))
    expected = score_frame(world.trained.bundle, example)
    np.testing.assert_array_equal(json.loads(scores), expected)
    assert len(set(expected)) > 1


def test_a_run_says_what_it_was_made_of(world: World, tracked: Tracked) -> None:
    logged = mlflow.MlflowClient(tracked.uri).get_run(tracked.run).data
    assert logged.params["snapshot_id"] == world.snapshot.manifest.id
    assert logged.params["bundle_sha256"] == world.trained.bundle.sha256
    assert logged.metrics["ranker_recall_at_3"] > 0


def test_aliases_follow_the_colours_and_an_unregistered_model_is_told(world: World, tracked: Tracked) -> None:
    sha256 = world.trained.bundle.sha256

    def aliases() -> set[str]:
        return set(mlflow.MlflowClient(tracked.uri).get_registered_model(MODEL_NAME).aliases)

    assert tell_mlflow(tracked.uri, {"green": sha256, "live": sha256}) is None
    assert aliases() == {"candidate", "green", "live"}
    told = tell_mlflow(tracked.uri, {"green": sha256, "blue": "f" * 64, "live": "f" * 64})
    assert told is not None
    assert "no version of stillpoint-ranker for model ffffffffffff" in told
    assert aliases() == {"candidate", "green"}
    ours = set_aliases(AliasClient(tracked.uri), {"blue": sha256}, {"green", "blue"})
    assert (ours, aliases()) == ([], {"candidate", "blue"})


def test_a_snapshot_that_is_not_there_is_refused_with_those_that_are(world: World) -> None:
    with pytest.raises(InvalidInput, match=f"no snapshot 's0'; there are: .*{world.snapshot.manifest.id}"):
        load_snapshot(world.lake, "s0")


def test_a_feature_that_moved_since_the_snapshot_is_told_with_a_plot_and_nothing_is_not_a_pass(world: World) -> None:
    rows = world.snapshot.rows
    place = rows.schema.get_field_index("plays_7d")
    moved = rows.set_column(
        place, "plays_7d", pc.add(pc.multiply(rows["plays_7d"], 3), 500).cast(rows["plays_7d"].type)
    )
    found = check_drift(world.lake, moved, "s", since=START + timedelta(days=8), at=CUTOFF)
    assert {"population stability index", "KS distance"} <= {
        m.measure for _, m in found.drifted if m.feature == "plays_7d"
    }
    shown = page(found)
    assert "plays_7d (lake): population stability index" in shown
    assert "<svg" in shown
    later = check_drift(world.lake, rows, "s", since=date(2030, 1, 1), at=CUTOFF)
    assert (later.passed, later.drifted) == (False, ())
