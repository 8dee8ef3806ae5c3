"""Documents are true: the paths that they name exist, what they install is ours, and every decision is dated and listed.

A move never leaves a reader before an empty shelf. The name `stillpoint` on PyPI is another project's, and ours, `stillpoint-features`,
is nobody's until its first release is published there.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from stillpoint import __version__

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


NO_PATHS = {"stillpoint/model-server", "deploy/databricks/requirements.txt", "stillpoint/receiver", "simulation/truth"}
"""What a reader makes while following a document, and names of things outside the repository."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_a_document_exists(document: str) -> None:
    missing = []
    for found in PATH.findall((ROOT / document).read_text(encoding="utf-8")):
        path = found.rstrip(".")
        if not any(ROOT.glob(path)) and path not in NO_PATHS:
            missing.append(path)
    assert missing == []


OUR_NAME_ALONE = re.compile(
    r"(?:\b(?:pipx?|uv|uvx|poetry|pdm)\b[^\n`]*?\b(?:install|add|run)\b[^\n`]*?|\buvx\s+)(?<![\w./-])stillpoint(?:[-_]features)?(?![\w./-])"  # a command
    r"|(?<![\w./-])stillpoint(?:[-_]features)?(?:\[[\w,.-]+\]|==)",  # a requirement
    re.IGNORECASE,
)
"""What would fetch either name from an index; `./stillpoint[stores]` and a wheel's file name are paths, and ours."""


@pytest.mark.parametrize(
    ("line", "from_an_index"),
    [
        ("pip install 'stillpoint[stores]'", True),
        ("pip install stillpoint", True),
        ("pip install --upgrade stillpoint", True),
        ("python -m pip install -U stillpoint==0.1.0", True),
        ("uv add stillpoint", True),
        ("uvx stillpoint up", True),
        ("Install `stillpoint[tracing]` and set the share", True),
        ("pip install './stillpoint[stores]'", False),
        ("pip install stillpoint-features", True),
        ("pip install 'stillpoint-features[stores]'", True),
        ("stillpoint_features==0.1.0", True),
        ("pip install './stillpoint_features-0.1.0-py3-none-any.whl[stores]'", False),
        ("pip install -e '.[notebooks]'", False),
        ("pip install -r requirements.lock", False),
        ("stillpoint up", False),
    ],
)
def test_what_would_install_another_project_is_recognised(line: str, from_an_index: bool) -> None:
    assert bool(OUR_NAME_ALONE.search(line)) == from_an_index


def test_nothing_installs_us_by_name_since_no_index_has_us() -> None:
    own = {"pyproject.toml", Path(__file__).relative_to(ROOT).as_posix()}  # extras that name each other, and this test
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    wrong = []
    for name in names:
        path = ROOT / name
        if name in own or path.suffix in {".lock", ".parquet", ".bin", ".png"} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if OUR_NAME_ALONE.search(line):
                wrong.append(f"{name}:{number}: {line.strip()[:120]}")
    assert wrong == []


def test_the_wheel_that_the_readme_installs_is_the_one_that_is_built() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    built = f"{project['name'].replace('-', '_')}-{__version__}-py3-none-any.whl"
    named = re.findall(r"[\w.-]+\.whl", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(named) == {built}


def test_every_decision_has_a_number_a_date_and_a_status_and_stands_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    listed = re.findall(
        r"^\| \[(\d{4})\]\((\S+)\) \| (.+) \| (\d{4}-\d\d-\d\d) \| (.+) \|$",
        (folder / "README.md").read_text("utf-8"),
        re.M,
    )
    decisions = []
    for path in sorted(folder.glob("[0-9]*.md")):
        head = re.match(
            r"# (\d{4})\. (.+)\n\n\*\*Date:\*\* (\S+) · \*\*Status:\*\* (.+)\n", path.read_text(encoding="utf-8")
        )
        assert head, (
            f"{path.name} does not begin with '# <number>. <title>' and '**Date:** <day> · **Status:** <status>'"
        )
        decisions.append((head[1], path.name, head[2], head[3], head[4]))
    assert listed == decisions
    assert all(name.startswith(f"{number}-") for number, name, *_ in decisions)
