"""Each bad input of training is refused by name, with nothing registered and nothing half-written, from the command line."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import feast
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stillpoint.cli import run
from stillpoint.errors import InvalidInput, UnknownFeature
from stillpoint.feast_definitions import define
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.process import free_port
from stillpoint.snapshot_definition import LabelDefinition
from stillpoint.snapshots import Snapshot
from tests.support.training_world import ENCODER, few_users, open_store
from tests.support.wellness import FEATURES
from training.snapshot import make_snapshot

CUTOFF = datetime(2026, 10, 8, tzinfo=UTC)


class Place:
    """A lake with a snapshot, the settings that name it, and a tracking database that must never appear."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake, self.store = few_users(folder)
        self.snapshot = self.take()

    def take(self, store: feast.FeatureStore | None = None, **changes: object) -> Snapshot:
        arguments = {"cutoff": CUTOFF, "encoder_sha256": ENCODER.sha256} | changes
        return make_snapshot(self.lake, store or self.store, **arguments)  # type: ignore[arg-type]

    def holds(self) -> dict[str, bytes]:
        return {key: self.lake.objects.get(key) for key in sorted(self.lake.objects.list(""))}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("refusals"))


def test_a_snapshot_of_too_few_labels_of_one_class_or_of_an_incomplete_service_leaves_nothing(
    place: Place, tmp_path: Path
) -> None:
    before = place.holds()
    with pytest.raises(InvalidInput, match=r"\d+ labelled rows with \d+ successes until .* expected at least 500"):
        place.take(cutoff=datetime(2026, 10, 5, 9, tzinfo=UTC))
    with pytest.raises(InvalidInput, match=r"\d\d\d+ labelled rows with 0 successes .* of both classes"):
        place.take(definition=LabelDefinition(window=timedelta(0)))
    lacking = open_store(place.lake, tmp_path)
    views = define(FEATURES, lake_root=place.lake.root, mapping_version=1).views
    lacking.apply(
        [
            feast.FeatureService(
                name="ranker_v1",
                features=[one for name, one in views.items() if name not in ("biometrics", "user_sequence")],
            )
        ]
    )
    with pytest.raises(UnknownFeature, match="ranker_v1 lacks biometrics:heart_rate_mean_10m"):
        place.take(store=lacking)
    assert place.holds() == before


def too_old(lake: Lake, folder: str) -> None:
    """The limit is an option of the command."""


def damaged(lake: Lake, folder: str) -> None:
    lake.objects.put(f"{folder}/rows.parquet", lake.objects.get(f"{folder}/rows.parquet")[:-100])


def swapped(lake: Lake, folder: str) -> None:
    rows = pq.read_table(io.BytesIO(lake.objects.get(f"{folder}/rows.parquet")))
    sink = io.BytesIO()
    pq.write_table(rows.set_column(6, "label", pc.subtract(1, rows["label"])), sink)
    lake.objects.put(f"{folder}/rows.parquet", sink.getvalue())


def of_other_definitions(lake: Lake, folder: str) -> None:
    manifest = json.loads(lake.objects.get(f"{folder}/manifest.json"))
    lake.put_json(f"{folder}/manifest.json", manifest | {"definitions_sha256": "0" * 64})


def without_late_successes(lake: Lake, folder: str) -> None:
    """Leave the last fifth of the rows, by which a model is judged, without a success."""
    from stillpoint.snapshots import stored_rows

    rows = pq.read_table(io.BytesIO(lake.objects.get(f"{folder}/rows.parquet")))
    labels = rows["label"].to_numpy().copy()
    labels[int(len(labels) * 0.75) :] = 0
    changed = rows.set_column(
        rows.schema.get_field_index("label"), rows.schema.field("label"), pa.array(labels, pa.int8())
    )
    data, digest = stored_rows(changed)
    lake.objects.put(f"{folder}/rows.parquet", data)
    manifest = json.loads(lake.objects.get(f"{folder}/manifest.json"))
    lake.put_json(f"{folder}/manifest.json", manifest | {"rows_sha256": digest})


@pytest.mark.parametrize(
    ("spoil", "hours", "sentence"),
    [
        (too_old, 1, "h ago; expected under 1 h: run `stillpoint snapshot` again"),
        (damaged, 8e5, "does not match its manifest; take the snapshot again"),
        (swapped, 8e5, "does not match its manifest; take the snapshot again"),
        (of_other_definitions, 8e5, "was taken under definitions 000000000000; the present ones"),
        (without_late_successes, 8e5, "the test part of snapshot"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_snapshot_that_cannot_be_trained_on_registers_and_writes_nothing(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Lake, str], None],
    hours: float,
    sentence: str,
) -> None:
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    for key, data in place.holds().items():
        lake.objects.put(key, data)
    spoil(lake, f"snapshots/{place.snapshot.manifest.id}")
    for name, value in {"LAKE": "lake", "HOME": "home", "MLFLOW_TRACKING_URI": "mlflow.db"}.items():
        uri = f"sqlite:///{tmp_path / value}" if name.startswith("MLFLOW") else str(tmp_path / value)
        monkeypatch.setenv(f"STILLPOINT_{name}", uri)
    monkeypatch.chdir(tmp_path)
    before = {key: lake.objects.get(key) for key in lake.objects.list("")}
    assert run(["train", place.snapshot.manifest.id, "--maximum-age-hours", str(hours)]) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith("error: ")
    assert sentence in told
    assert {key: lake.objects.get(key) for key in lake.objects.list("")} == before
    assert not (tmp_path / "mlflow.db").exists()


def test_without_its_tracking_server_nothing_is_trained(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STILLPOINT_LAKE", place.lake.root)
    monkeypatch.setenv("STILLPOINT_MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    before = place.holds()
    assert run(["train", "--maximum-age-hours", "800000"]) == 1
    assert "does not answer (" in capsys.readouterr().err
    assert place.holds() == before


def test_the_rows_of_the_fixture_could_be_trained_on(place: Place) -> None:
    labels = np.asarray(place.snapshot.rows["label"])
    assert 0 < labels.sum() < len(labels)
