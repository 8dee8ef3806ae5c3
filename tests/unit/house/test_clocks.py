"""The present is asked for by entry points only; below them time is an argument, which a test owns."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = (
    "stillpoint",
    "feature_repo",
    "ingestion",
    "training",
    "release",
    "inference",
    "validation",
    "privacy",
    "simulation",
)
ENTRY_POINTS = (
    "stillpoint/clock.py",  # the clock itself
    "stillpoint/cli/",
    "stillpoint/stores/online.py",  # called by Feast, which hands no clock over
    "stillpoint/stores/offline.py",
    "stillpoint/stores/engine.py",
    "stillpoint/local/aws_program.py",  # servers of their own, in the place of AWS's
    "stillpoint/local/sagemaker_control.py",
    "ingestion/cli.py",
    "ingestion/kinesis_source.py",  # called by Spark
    "training/cli.py",
    "inference/cli.py",
    "inference/features_cli.py",
    "inference/clients.py",
    "inference/http/app.py",
    "inference/mixup.py",
    "validation/cli.py",
    "validation/repair_cli.py",
    "privacy/cli.py",
    "simulation/command.py",
)
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("date", "today"), ("time", "time"), ("time", "time_ns")}


def asks_for_the_present(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id="system_clock"):
            return True
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return (module, name) in CLOCKS
    return False


def test_the_present_is_asked_for_by_entry_points_only() -> None:
    found = [
        f"{path}:{node.lineno}"
        for room in ROOMS
        for path in (one.relative_to(ROOT).as_posix() for one in sorted((ROOT / room).rglob("*.py")))
        if not path.startswith(ENTRY_POINTS)
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Call) and asks_for_the_present(node)
    ]
    assert found == [], "take a `Clock`, or the moment, as an argument"


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what an import runs: everything but the bodies of functions, whose defaults and decorators it runs too."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                todo += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
            case ast.Lambda():
                todo += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            case _:
                todo += ast.iter_child_nodes(node)


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("NOW = datetime.now(UTC)", True),
        ("class A:\n    at = [time.time() for _ in range(2)]", True),
        ("def f(at=date.today()): ...", True),
        ("@mark(system_clock())\ndef f(): ...", True),
        ("def f():\n    return datetime.now(UTC)", False),
        ("clock = lambda: time.time_ns()", False),
        ("NOW = datetime(2026, 3, 2, tzinfo=UTC)", False),
    ],
)
def test_what_an_import_runs_is_told_from_what_a_call_runs(text: str, asks: bool) -> None:
    calls = [node for node in run_at_import(ast.parse(text)) if isinstance(node, ast.Call)]
    assert any(asks_for_the_present(node) for node in calls) is asks


def test_no_test_module_asks_for_the_present_when_it_is_imported() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in run_at_import(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and asks_for_the_present(node)
    ]
    assert found == [], "the test may run half an hour later: take a fixed time, or ask in the test or its fixture"
