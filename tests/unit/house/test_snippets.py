"""What the documents tell a reader to type exists: commands with their options, settings, and the yaml of the stores."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from feast.repo_config import RepoConfig

from release.gate import Thresholds
from stillpoint.settings import Settings
from validation.drift import DriftLimits

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
    if path.name not in ("cli.md", "CHANGELOG.md") and "adr" not in path.parts
)
OTHER_VARIABLES = {"STILLPOINT_MODEL_PORT", "STILLPOINT_URL", "STILLPOINT_TOKEN"}
"""Variables that are read by one program of its own."""


def blocks(document: str, language: str = "") -> Iterator[str]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S):
        if found[1] == language or (language == "" and found[1] in ("", "sh", "bash", "console")):
            yield found[2]


def known_commands() -> dict[str, set[str]]:
    """Return the options of each command by its words, from docs/cli.md, which a test keeps equal to `--help`."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("### `"):
            name = line.removeprefix("### `").rstrip("`")
            found[name] = {"--help"}
        elif line.startswith("| `-"):
            found[name] |= set(re.findall(r"`(--?[\w-]+)`", line.split(" | ")[0]))
    return found


def commands(document: str) -> Iterator[str]:
    for block in blocks(document):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;", re.sub(r"(^|\s)#.*|\s{2,}.*", "", line.strip().removeprefix("$ "))):
                if part.strip().startswith("stillpoint "):
                    yield part.strip()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_document_exists_with_its_options(document: str) -> None:
    known = known_commands()
    for line in commands(document):
        words = line.split()
        verb = next((name for end in (3, 2) if (name := " ".join(words[:end])) in known), None)
        assert verb is not None or "|" in words[1] or words[1].startswith("-"), f"{document}: `{line}`"
        if verb is None or verb == "stillpoint feast":
            continue
        options = {word.partition("=")[0].strip("[]") for word in words if word.strip("[]").startswith("-")}
        assert options <= known[verb] | {"-h"}, f"{document}: `{line}`"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_setting_in_a_document_exists(document: str) -> None:
    known = {f"STILLPOINT_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    for limits, prefix in ((Thresholds, "STILLPOINT_GATE_"), (DriftLimits, "STILLPOINT_DRIFT_")):
        known |= {f"{prefix}{name.upper()}" for name in limits.model_fields}
    text = (ROOT / document).read_text(encoding="utf-8")
    named = {name for name in re.findall(r"STILLPOINT_[A-Z0-9_]+(?![A-Z0-9_…<])", text) if not name.endswith("_")}
    assert sorted(named - known) == []


def test_the_readmes_yaml_is_a_configuration_that_feast_accepts() -> None:
    (section,) = blocks("README.md", "yaml")
    config = RepoConfig(project="a_team", provider="local", registry="registry.db", **yaml.safe_load(section))
    assert type(config.online_store).__name__ == "StillpointOnlineStoreConfig"
    assert type(config.offline_store).__name__ == "StillpointOfflineStoreConfig"
    assert config.coerce_tz_aware is False
