"""The image holds what its entry points need, as far as a machine without docker can tell."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from stillpoint.local.process import free_port
from tests.support.hand_made import contents, model

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "model-server"
TEXT = (FOLDER / "Dockerfile").read_text()


def test_the_dockerfile_has_no_fault_that_a_linter_knows() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_that_is_copied_exists_and_is_let_into_the_build() -> None:
    sources = [word for line in re.findall(r"^COPY (.*)$", TEXT, re.M) for word in line.split()[:-1]]
    assert {"stillpoint", "inference", "training", "feature_repo"} <= set(sources)
    let_in = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in, source


def test_the_image_runs_as_nobody_special_and_installs_only_packages_with_hashes() -> None:
    assert re.search(r"^USER \d+$", TEXT, re.M)
    assert "--require-hashes" in TEXT
    locked = (FOLDER / "requirements.lock").read_text()
    names = set(re.findall(r"^([a-z0-9._-]+)==", locked, re.M))
    assert {"xgboost", "uvicorn", "starlette", "feast"} <= names
    assert not names & {"pyspark", "great-expectations", "pytest"}


def variables(folder: Path, port: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "SM_MODEL_DIR": str(folder), "SAGEMAKER_BIND_TO_PORT": str(port)}


def entry() -> list[str]:
    words = re.findall(r'"([^"]+)"', re.search(r"^ENTRYPOINT (.*)$", TEXT, re.M).group(1))  # type: ignore[union-attr]
    return [sys.executable, *words[1:]]


@pytest.mark.usefixtures("programs")
def test_the_entry_point_answers_pings_and_refuses_an_empty_folder_in_one_sentence(tmp_path: Path) -> None:
    empty = subprocess.run(entry(), env=variables(tmp_path, 0), cwd=ROOT, capture_output=True, text=True, check=False)
    assert empty.returncode == 1
    assert empty.stderr.strip() == f"error: {tmp_path} holds 0 bundles (*.tar.gz); expected exactly one"
    bundle = model([one[0] for one in contents(5)], mapping_version=1, seed=3, users=4)
    (tmp_path / f"{bundle.sha256}.tar.gz").write_bytes(bundle.data)
    port = free_port()
    server = subprocess.Popen(entry(), env=variables(tmp_path, port), cwd=ROOT)
    try:
        assert wait_for(f"http://127.0.0.1:{port}/ping") == 200
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.soak
@pytest.mark.usefixtures("programs")
def test_the_entry_point_starts_in_a_clean_environment_with_only_the_images_packages(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    venv = tmp_path / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    python = venv / "bin" / "python"
    lock = FOLDER / "requirements.lock"
    subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock], check=True)
    app = tmp_path / "app"
    app.mkdir()
    for name in ("stillpoint", "feature_repo", "training", "inference"):
        (app / name).symlink_to(ROOT / name)
    bundle = model([one[0] for one in contents(5)], mapping_version=1, seed=3, users=4)
    (tmp_path / f"{bundle.sha256}.tar.gz").write_bytes(bundle.data)
    port = free_port()
    server = subprocess.Popen([python, *entry()[1:]], env=variables(tmp_path, port), cwd=app)
    try:
        assert wait_for(f"http://127.0.0.1:{port}/ping") == 200
    finally:
        server.terminate()
        server.wait(10)
    trained = subprocess.run(
        [python, "-m", "training.sagemaker_program"],
        env={**variables(tmp_path, port), "SM_INPUT_DIR": str(tmp_path / "in"), "SM_OUTPUT_DIR": str(tmp_path / "out")},
        cwd=app, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (tmp_path / "out" / "failure").read_text().startswith("there are no hyperparameters"), trained.stderr


def wait_for(url: str, seconds: float = 30.0) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return int(answer.status)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer")
