"""The present is asked for by entry points only; below them time is an argument, which a test owns."""

import ast
from pathlib import Path

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
