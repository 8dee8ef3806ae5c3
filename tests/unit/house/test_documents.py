"""Paths that the documents name exist, so that a move never leaves a reader before an empty shelf."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
)
TOPS = "stillpoint|feature_repo|simulation|ingestion|training|release|inference|validation|privacy|console|tests|docs|deploy|benchmarks|notebooks|examples"
PATH = re.compile(rf"(?<![\w./-])((?:{TOPS})/[\w./*-]+)")


NO_PATHS = {"deploy/databricks/requirements.txt", "stillpoint/receiver"}
"""What a reader makes while following a document, and names of things outside the repository."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_a_document_exists(document: str) -> None:
    missing = []
    for found in PATH.findall((ROOT / document).read_text(encoding="utf-8")):
        path = found.rstrip(".")
        if not any(ROOT.glob(path)) and path not in NO_PATHS:
            missing.append(path)
    assert missing == []
