"""No value is changed in silence: Arrow's unchecked casts wrap, cut and round without a word, so the house has none."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = ("feature_repo", "inference", "ingestion", "privacy", "release", "simulation", "stillpoint", "training", "validation")  # fmt: skip


def unchecked(tree: ast.AST) -> Iterator[ast.expr]:
    """Find calls that ask for an unchecked cast: `safe=False`, or an allowance such as `allow_int_overflow=True`."""
    for node in ast.walk(tree):
        for word in node.keywords if isinstance(node, ast.Call) else ():
            value = word.value.value if isinstance(word.value, ast.Constant) else None
            allows = (word.arg or "").startswith("allow_") and (word.arg or "").endswith(("_overflow", "_truncate"))
            if (word.arg == "safe" and value is not True) or (allows and value is not False):
                yield node
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "unsafe"
            and getattr(node.value, "attr", "") == "CastOptions"
        ):
            yield node


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_casts_without_a_check(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}" for path in files for call in unchecked(ast.parse(path.read_text()))
    ]
    assert not found, "convert with stillpoint.stores.values.exact, or cast with the check"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("column.cast(kind, safe=False)", 1),
        ("pc.cast(column, kind, safe=flag)", 1),
        ("pa.array(values, kind, safe=False)", 1),
        ("pc.CastOptions(kind, allow_int_overflow=True)", 1),
        ("pc.CastOptions.unsafe(kind)", 1),
        ("column.cast(kind, safe=True)", 0),
        ("column.cast(kind)", 0),
    ],
)
def test_every_way_of_asking_for_one_is_found(text: str, count: int) -> None:
    assert len(list(unchecked(ast.parse(text)))) == count
