"""The Lambda's image holds what the function needs on both architectures, as far as a machine without docker can tell."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inference.lambda_package import HANDLER
from inference.predictions.stored_recommendations import Recommendations
from stillpoint.lake.tables import Lake
from stillpoint.local.provision import provision
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Kind
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.integration.test_lambda_function import environment, requested
from tests.support.hand_made import hand_made

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "lambda"
TEXT = (FOLDER / "Dockerfile").read_text()
LOCK = FOLDER / "requirements.lock"
UV = Path(sys.executable).with_name("uv")
ROOMS = ("stillpoint", "feature_repo", "inference")


def test_the_dockerfile_has_no_fault_that_a_linter_knows() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_that_is_copied_exists_and_is_let_into_the_build() -> None:
    sources = [word for line in re.findall(r"^COPY (.*)$", TEXT, re.M) for word in line.split()[:-1]]
    assert set(ROOMS) < set(sources)
    let_in = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in, source


def test_the_image_runs_the_handler_and_installs_only_wheels_with_hashes() -> None:
    assert json.loads(re.search(r"^CMD (.*)$", TEXT, re.M).group(1)) == [HANDLER]  # type: ignore[union-attr]
    assert "--require-hashes --only-binary :all:" in TEXT
    names = set(re.findall(r"^([a-z0-9._-]+)==", LOCK.read_text(), re.M))
    assert {"numpy", "pyarrow", "scipy", "xgboost", "redis", "boto3"} <= names
    assert not names & {"pyspark", "feast", "great-expectations", "mlflow", "pandas", "pytest"}
    assert "make lock" in LOCK.read_text()
    assert "--extra function pyproject.toml -o deploy/lambda/requirements.lock" in (ROOT / "Makefile").read_text()


@pytest.mark.soak
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_package_has_a_wheel_for_the_images_c_library(machine: str, tmp_path: Path) -> None:
    """Of the image: Python 3.12 on Amazon Linux 2023, with glibc 2.34."""
    platform = ("--python-platform", f"{machine}-manylinux_2_34", "--python-version", "3.12")
    wheels = ("--only-binary", ":all:", "--require-hashes", "--dry-run", "--target", str(tmp_path))
    done = subprocess.run(
        [UV, "pip", "install", *platform, *wheels, "-r", LOCK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_handler_does_a_request_in_a_clean_environment_with_only_the_images_packages(
    settings: Settings, s3_lake: Lake, redis_server: RedisServer, unique: str, tmp_path: Path
) -> None:
    provision(settings)
    hand_made(s3_lake, settings, project=f"stillpoint_{unique}").point()
    venv = tmp_path / "venv"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    python = venv / "bin" / "python"
    subprocess.run([UV, "pip", "sync", "--quiet", "--require-hashes", "--python", python, LOCK], check=True)
    app = tmp_path / "app"
    app.mkdir()
    for name in ROOMS:
        (app / name).symlink_to(ROOT / name)
    body = requested("u1", Kind.TODAY).to_bytes().decode()
    event = {"Records": [{"messageId": "m", "receiptHandle": "h", "body": body, "attributes": {}}]}
    code = (
        "import importlib, json, sys\n"
        f"module, _, name = {HANDLER!r}.rpartition('.')\n"
        f"print(json.dumps(getattr(importlib.import_module(module), name)({event!r}, None)))\n"
    )
    variables = {**environment(settings), "PYTHONPATH": str(app), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run([python, "-c", code], env=variables, cwd=app, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, '{"batchItemFailures": []}'), done.stderr
    (held,) = Recommendations(connect(redis_server.connection_string)).get("u1", [Kind.TODAY], "r0001")
    assert held is not None
