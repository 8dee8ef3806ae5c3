"""Another Feast repository can use our stores with nothing but the wheel."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stillpoint.local.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
ROOMS = ("ingestion", "training", "inference", "release", "validation", "feature_repo", "tests")

FEATURE_STORE = """
project: {project}
provider: local
registry: {folder}/registry.db
entity_key_serialization_version: 3
online_store:
  type: stillpoint.stores.online.StillpointOnlineStore
  connection_string: "{connection}"
offline_store:
  type: stillpoint.stores.offline.StillpointOfflineStore
  lake_root: {folder}/lake
batch_engine:
  type: stillpoint.stores.engine.StillpointEngine
"""

DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Float64, Int64
from feast.value_type import ValueType

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.STRING)
trips = FeatureView(
    name="trips", entities=[driver], ttl=timedelta(days=3650),
    schema=[Field(name="rating", dtype=Float64), Field(name="count", dtype=Int64)],
    source=FileSource(name="trips", path="{folder}/trips.parquet", timestamp_field="event_timestamp",
                      created_timestamp_column="created_timestamp"),
)
"""

USE = """
import datetime, importlib.util, sys
import pandas as pd
from feast import FeatureStore

for room in sys.argv[1].split(","):
    assert importlib.util.find_spec(room) is None, room + " came with the wheel"
hour = datetime.timedelta(hours=1)
start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
pd.DataFrame({
    "driver_id": ["a", "a", "b"], "rating": [1.0, 2.5, None], "count": [1, 2, 3],
    "event_timestamp": [start, start + hour, start], "created_timestamp": [start, start + hour, start],
}).to_parquet("trips.parquet")
store = FeatureStore(".")
sys.path.insert(0, ".")
from definitions import driver, trips
store.apply([driver, trips])
store.materialize(start - hour, start + 2 * hour)
read = store.get_online_features(["trips:rating", "trips:count"], [{"driver_id": "a"}, {"driver_id": "b"}]).to_dict()
assert read["rating"] == [2.5, None] and read["count"] == [2, 3], read
spine = pd.DataFrame({"driver_id": ["a", "b", "c"], "event_timestamp": [start + hour / 2] * 3})
past = store.get_historical_features(spine, ["trips:rating"]).to_df().sort_values("driver_id")
assert len(past) == 3 and past["rating"].tolist()[0] == 1.0 and past["rating"].isna().tolist() == [False, True, True], past
print("read back", read["count"])
"""


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    return next(folder.glob("*.whl"))


def test_wheel_holds_stillpoint_and_its_licence_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"stillpoint"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "stillpoint/py.typed" in names


def test_foreign_feast_repository_applies_materializes_and_reads_with_the_wheel_alone(
    wheel: Path, tmp_path: Path, redis_server: RedisServer, unique: str
) -> None:
    uv = Path(sys.executable).with_name("uv")
    # The versions that were tested, without the hashes: a wheel that was just built has none.
    pins = re.findall(r"^[A-Za-z0-9_.-]+==\S+", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    (tmp_path / "pins.txt").write_text("\n".join(pins))
    venv = tmp_path / "venv"
    run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, venv, folder=tmp_path)
    python = venv / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", python, "-c", "pins.txt", f"{wheel}[stores]", folder=tmp_path)

    repository = tmp_path / "foreign"
    repository.mkdir()
    (repository / "feature_store.yaml").write_text(
        FEATURE_STORE.format(project=unique, folder=repository, connection=redis_server.connection_string)
    )
    (repository / "definitions.py").write_text(DEFINITIONS.format(folder=repository))
    (repository / "use.py").write_text(USE)
    assert "read back [2, 3]" in run(python, "-I", "use.py", ",".join(ROOMS), folder=repository)
