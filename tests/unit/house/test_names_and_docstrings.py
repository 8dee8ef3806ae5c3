"""The house's rules on names and docstrings, over every module of the product."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = (
    "stillpoint",
    "feature_repo",
    "simulation",
    "ingestion",
    "training",
    "release",
    "inference",
    "validation",
    "privacy",
)
BEING_BUILT = ("stillpoint/app/", "stillpoint/features/streamed/", "stillpoint/dtypes.py")
PUBLIC_PATHS = [
    "stillpoint.stores.online:StillpointOnlineStore",
    "stillpoint.stores.offline:StillpointOfflineStore",
    "stillpoint.stores.engine:StillpointEngine",
    "stillpoint:feature_store",
    "stillpoint.features.on_demand:request_time_frame",
    "inference.lambda_handler:handle",
    "inference.model_server:main",
    "inference.openapi:text",
    "inference.tokens:main",
    "inference.mixup:main",
    "training.sagemaker_program:main",
]
"""What the outside names: yaml files, frozen registries, Lambda, containers. None of them may move."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not path.relative_to(ROOT).as_posix().startswith(BEING_BUILT):
                yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def test_every_module_begins_with_a_statement() -> None:
    wrong = []
    others = [path for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
    around = [(path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in others]
    for path, tree in [*modules(), *around]:
        first = (ast.get_docstring(tree) or "").partition("\n\n")[0].replace("\n", " ")
        if not first or "?" in first.partition(". ")[0]:
            wrong.append(f"{path}: {first!r}")
    assert not wrong


OTHER_WORDS = re.compile(
    r"\b(?:persons?|people)\b|(?<![a-z])(?:person|people)(?=_)|(?<=_)(?:person|people)(?![a-z])", re.IGNORECASE
)
STORED_OR_SENT = re.compile(
    r"person: str|person=|\.person\b|\"person\"|\"people\":|\['people'\]|\[\"people\"\]|as people write"
)
"""The field `person` of receipts, the key `people` of the mix-up's figures, and people who are not the app's users."""


def test_whoever_uses_the_app_is_called_a_user() -> None:
    wrong = []
    for room in (*ROOMS, "docs", "benchmarks"):
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix not in {".py", ".md"}:
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if OTHER_WORDS.search(STORED_OR_SENT.sub("", line)):
                    wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert wrong == []


def test_no_public_class_name_stands_twice() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_no_public_class_is_named_by_a_bare_participle() -> None:
    """`JudgedLines` says what was judged; `Judged` does not. Nouns that end alike, and errors, are named here."""
    nouns = {"Ranking", "Mapping", "Ordering", "Tracing", "Finding", "Fenced"}
    found = [
        f"{path}: {node.name}"
        for path, tree in modules()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and re.fullmatch(r"[A-Z][a-z]+(ed|ing)", node.name) and node.name not in nouns
    ]
    assert found == []


@pytest.mark.parametrize("path", PUBLIC_PATHS)
def test_a_path_that_others_name_stays_where_it_is(path: str) -> None:
    module, _, name = path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
