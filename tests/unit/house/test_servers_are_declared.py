"""A test that starts a server is known by its fixtures, so `make quick` starts none."""

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.servers import FIXTURES_OF_MARK, UndeclaredServer, mark_of_command, marks_of_item


def test_a_server_without_its_fixture_is_refused_before_it_starts() -> None:
    with pytest.raises(UndeclaredServer, match="starts redis-server --port 0, but is not marked redis: use one of"):
        subprocess.Popen(["redis-server", "--port", "0"])


@pytest.mark.parametrize(
    ("command", "mark"),
    [
        ([sys.executable, "-I", "-S", "launcher.py", "0", "/usr/bin/redis-server", "--port", "1"], "redis"),
        (["/usr/bin/redis-server", "--version"], None),
        ([".venv-aws/bin/python", "-I", "stillpoint/local/aws_program.py"], "stack"),
        (["/opt/spark/bin/spark-submit", "pyspark-shell"], "spark"),
        (["/usr/lib/jvm/bin/java", "-version"], None),
        ([sys.executable, "-m", "stillpoint", "up"], "program"),
        ([sys.executable, "-m", "stillpoint", "up", "--help"], None),
        ([sys.executable, "-m", "inference.model_server"], "program"),
        ([sys.executable, "-c", "print('up')"], None),
        (["git", "stream"], None),
    ],
)
def test_a_command_line_is_known_by_the_server_that_it_starts(command: list[str], mark: str | None) -> None:
    assert mark_of_command(command) == mark


@pytest.mark.parametrize(
    ("fixtures", "parameters", "marks"),
    [
        (["tmp_path"], {}, set()),
        (["settings", "aws", "redis_server"], {}, {"redis", "stack"}),
        (["store"], {"store": "s3_lake"}, {"stack"}),
        (["store"], {"store": "lake"}, set()),
        (["whole_stack", "java"], {}, {"redis", "stack", "program", "spark"}),
    ],
)
def test_a_test_is_marked_by_its_fixtures_and_by_those_that_its_parameters_name(
    fixtures: list[str], parameters: dict[str, Any], marks: set[str]
) -> None:
    item = SimpleNamespace(fixturenames=fixtures, callspec=SimpleNamespace(params=parameters))
    assert marks_of_item(cast("pytest.Item", item)) == marks


def test_each_fixture_of_a_mark_exists() -> None:
    tests = Path(__file__).parents[2]
    defined = {
        node.name
        for path in tests.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name for names in FIXTURES_OF_MARK.values() for name in names} <= defined
