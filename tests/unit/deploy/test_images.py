"""Every image is locked, runs without root, copies what exists, and is refused by its own pipeline without a lock."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
IMAGES = sorted(path.parent.name for path in ROOT.glob("deploy/*/Dockerfile"))


def recipe(image: str) -> str:
    return (ROOT / "deploy" / image / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def test_there_is_an_image_for_every_process() -> None:
    assert IMAGES == ["daily", "lambda", "model-server", "service", "stream", "training"]
    registry = (ROOT / "deploy" / "aws" / "infrastructure" / "registry.py").read_text()
    assert sorted(re.findall(r'"([\w-]+)"', re.search(r"^IMAGES = \((.*)\)$", registry, re.M)[1])) == IMAGES  # type: ignore[index]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert sorted(jobs["images"]["strategy"]["matrix"]["image"]) == IMAGES
    assert 'test -s "deploy/${IMAGE}/requirements.lock"' in str(jobs["images"]["steps"])


@pytest.mark.parametrize("image", IMAGES)
def test_a_recipe_has_no_fault_that_a_linter_knows(image: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, ROOT / "deploy" / image / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_packages_come_from_the_lock_alone_with_hashes(image: str) -> None:
    """`--no-deps`: the lock is whole, and pip would add what it leaves out on purpose (see `override-dependencies`)."""
    installs = re.findall(r"pip install ([^&\n]*)", recipe(image))
    assert installs
    for line in installs:
        assert "--no-deps" in line
        assert "--require-hashes" in line
        assert re.search(r"-r \S*requirements\.lock", line)
    lock = (ROOT / "deploy" / image / "requirements.lock").read_text()
    assert "make lock" in lock
    assert f"-o deploy/{image}/requirements.lock" in (ROOT / "Makefile").read_text()
    assert lock.count("--hash=sha256:") > lock.count("==")
    assert "://" not in lock, "an address of an index"
    assert "never" in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["override-dependencies"][0]


@pytest.mark.parametrize("image", IMAGES)
def test_everything_copied_exists_and_is_let_into_the_build(image: str) -> None:
    let_in = (ROOT / "deploy" / image / "Dockerfile.dockerignore").read_text().split()
    copied = [line for line in re.findall(r"^COPY (.*)$", recipe(image), re.M) if not line.startswith("--from")]
    for source in [word for line in copied for word in line.split()[:-1]]:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in or "!" + source.split("/")[0] in let_in, source
    for line in let_in:
        assert not line.startswith("!") or (ROOT / line[1:]).exists(), line


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_does_not_end_as_root(image: str) -> None:
    users = re.findall(r"^USER (\S+)$", recipe(image), re.M)
    assert users[-1] in ("10001", "1000", "hadoop:hadoop")


@pytest.mark.parametrize(
    ("image", "rooms"),
    [
        ("service", {"stillpoint", "feature_repo", "inference", "privacy"}),
        ("stream", {"stillpoint", "feature_repo", "ingestion", "simulation"}),
        ("daily", {"stillpoint", "feature_repo", "ingestion", "simulation"}),
    ],
)
def test_an_image_holds_the_rooms_of_its_process(image: str, rooms: set[str]) -> None:
    copied = {word for line in re.findall(r"^COPY (.*)$", recipe(image), re.M) for word in line.split()[:-1]}
    assert rooms <= copied
    assert not copied & {"tests", "training", "release", "benchmarks"}


def test_tokens_of_the_platform_become_a_file_that_only_the_process_reads(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "python").write_text('#!/bin/sh\necho "$@" "[${HTTP_TOKENS-none}]" "$STILLPOINT_HTTP_TOKENS"\n')
    (binaries / "python").chmod(0o755)
    environment = {"PATH": f"{binaries}:/usr/bin:/bin", "STILLPOINT_HOME": str(tmp_path / "home")}
    entry = str(ROOT / "deploy" / "service" / "entry.sh")
    done = subprocess.run(
        [entry, "serve", "--port", "1"],
        env=environment | {"HTTP_TOKENS": '{"tokens": []}'},
        capture_output=True,
        text=True,
        check=True,
    )
    file = tmp_path / "home" / "tokens.json"
    assert done.stdout == f"-m stillpoint serve --port 1 [none] {file}\n"
    assert file.read_text() == '{"tokens": []}'
    assert file.stat().st_mode & 0o777 == 0o600
    plain = subprocess.run([entry, "worker"], env=environment, capture_output=True, text=True, check=True)
    assert plain.stdout == "-m stillpoint worker [none] \n"
