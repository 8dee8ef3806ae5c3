"""A feature of one's own is a file of a dozen lines, and every command and snippet of its page runs."""

import shutil

from tests.support.tutorial import ROOT, as_shell, blocks, shell

PAGE = "docs/a-feature-of-your-own.md"
HISTORY = "stillpoint events simulate --users 40 --days 6 --start 2026-03-02\n"


def test_a_feature_takes_at_most_twelve_lines_of_one_file():
    language, text = blocks(PAGE)[0]
    assert (language, text.splitlines()[0]) == ("python", "# listening.py, in feature_repo/")
    assert len([line for line in text.splitlines()[1:] if line.strip()]) <= 12


def test_every_command_and_snippet_of_the_page_runs(tmp_path, redis_server):
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "feature_repo", clone / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("feature_store.yaml", ".feastignore"):
        shutil.copy(ROOT / name, clone / name)
    (_, declared), *rest = blocks(PAGE)
    (clone / "feature_repo" / "listening.py").write_text(declared)
    told = shell(tmp_path, redis_server, where=clone)(HISTORY + "\n".join(as_shell(*block) for block in rest))
    assert "user_id | event_timestamp" in told
    assert "listening:listens_7d" in told
    assert "rows written: " in told
    assert "listening " in told.partition("rows written: ")[2].splitlines()[0]
    assert "listens_7d" in told.rpartition("Deploying")[2], "the training set shows it"
