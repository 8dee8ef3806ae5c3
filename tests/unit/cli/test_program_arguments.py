"""Programs that are run by `python -m` check their arguments before anything starts, and say a failure in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

REFUSED = [
    ("inference.mixup", [], "Missing argument 'OLD'"),
    ("inference.mixup", ["r0001"], "Missing argument 'NEW'"),
    ("inference.mixup", ["r0001", "r2"], "'r2' is not a release; expected r0001"),
    ("inference.mixup", ["r0001", "r0002", "r0003"], "unexpected extra argument"),
    ("inference.openapi", ["--pink"], "No such option"),
    ("inference.openapi", ["x"], "unexpected extra argument"),
    ("inference.tokens", ["app"], "Missing argument 'SCOPE…'"),
    ("inference.tokens", ["app", "pink"], "'pink' is not one of"),
    ("inference.tokens", ["a\nb", "read"], "is not a name"),
    ("inference.lambda_package", [], "Missing argument 'FILE.zip'"),
    ("inference.lambda_package", ["/nope/x.zip"], "there is no folder /nope"),
    ("inference.lambda_package", ["/tmp"], "is a folder; name a file in it"),
]


def program(module: str, words: list[str], home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "STILLPOINT_HOME": str(home), "STILLPOINT_LAKE": str(home / "lake")},
    )


@pytest.mark.parametrize(("module", "words", "told"), REFUSED)
def test_a_usage_error_is_one_line_and_code_two(module: str, words: list[str], told: str, tmp_path: Path) -> None:
    ended = program(module, words, tmp_path / "home")
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert told in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.endswith(f"; see `python -m {module} --help`\n")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_a_release_that_is_not_there_is_one_line_and_code_one(tmp_path: Path) -> None:
    ended = program("inference.mixup", ["r0001", "r0002"], tmp_path / "home")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


def test_an_archive_is_written(tmp_path: Path) -> None:
    assert program("inference.lambda_package", [str(tmp_path / "x.zip")], tmp_path).returncode == 0
    assert (tmp_path / "x.zip").read_bytes().startswith(b"PK")
