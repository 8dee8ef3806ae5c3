"""Every alert and every red line of the console has a page of the runbook, which tells what to look at, what to do and when it is over."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from console.reading.runbook import runbook_page
from stillpoint.cli.verbs import VERBS

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "runbook"
RULES = ROOT / "deploy" / "prometheus" / "stillpoint.rules.yml"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")


def alerts() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"]]


def red_lines() -> set[str]:
    """Return the names that the console gives its red lines."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "console").rglob("*.py")]
    calls = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RedLine"
    ]
    names = {call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)}
    assert len(names) > 5
    return names


@pytest.mark.parametrize("name", sorted({*alerts(), *red_lines()}))
def test_each_alert_and_each_red_line_has_a_page(name: str) -> None:
    page = runbook_page(name)
    assert page is not None
    assert page.markdown is not None, f"write docs/runbook/ for {name}"
    assert page.markdown.startswith(f"# {name}\n")


def test_no_page_is_about_nothing_and_the_index_names_each() -> None:
    named = {path.read_text().splitlines()[0].removeprefix("# ") for path in PAGES}
    assert named == {*alerts(), *red_lines()}
    index = (FOLDER / "README.md").read_text()
    assert [path.name for path in PAGES if f"({path.name})" not in index] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_what_to_look_at_what_to_do_and_when_it_is_over(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^## (.*)$", text, re.M) == ["Look", "Mend", "Mended when"]
    assert "```bash" in text.partition("## Look")[2].partition("## Mend")[0], "a command to look"
    for command in re.findall(r"stillpoint ([a-z][a-z-]*)", text.replace("stillpoint-", "")):
        assert command in {verb.name for verb in VERBS}, f"{path.name}: there is no `stillpoint {command}`"
    for link in re.findall(r"\]\(([^)#]+\.md)\)", text):
        assert (path.parent / link).is_file(), f"{path.name} links to {link}"


def test_every_rule_names_its_page() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert (ROOT / rule["annotations"]["runbook"]).is_file(), rule["alert"]
