"""What is released can be checked: pinned actions, few permissions, bills of materials, signatures, provenance."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_commit_and_says_which_version_that_is(path: Path) -> None:
    uses = re.findall(r"uses: (.*)$", path.read_text(), re.M)
    assert uses
    for one in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one


def test_an_action_is_pinned_to_one_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, commit in re.findall(r"uses: ([\w./-]+)@([0-9a-f]{40})", path.read_text()):
            pins.setdefault(action, set()).add(commit)
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_permission_that_a_job_does_not_ask_for(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        assert "permissions" in job or path.stem == "nightly", name
        for step in job["steps"]:
            if "checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_a_release_is_signed_attested_and_listed() -> None:
    jobs = workflow("release")["jobs"]
    images, files = str(jobs["images"]["steps"]), str(jobs["publish"]["steps"])
    for part in (
        "cosign sign --yes",
        "cosign attest --yes --type cyclonedx",
        "attest-build-provenance",
        "linux/amd64,linux/arm64",
    ):
        assert part in images
    for part in ("cosign sign-blob", "attest-build-provenance", "gh release create"):
        assert part in files
    assert ".ci/sbom dist" in str(jobs["build"]["steps"])
    assert jobs["publish"]["needs"] == ["build", "images"]


def test_a_models_release_tests_builds_trains_deploys_and_switches_in_that_order() -> None:
    document = workflow("model")
    assert document["jobs"]["release"]["needs"] == "test"
    steps = "\n".join(step.get("run", "") for step in document["jobs"]["release"]["steps"])
    order = [
        "docker buildx build", "stillpoint snapshot", "stillpoint train --on sagemaker", "stillpoint deploy",
        "stillpoint release prepare", "stillpoint release check", "stillpoint release switch",
    ]  # fmt: skip
    places = [steps.index(one) for one in order]
    assert places == sorted(places)
    assert "secrets." not in (ROOT / ".github" / "workflows" / "model.yml").read_text()


def test_the_bills_of_materials_are_valid_and_hold_what_the_locks_hold(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / ".ci" / "sbom", tmp_path], check=True, capture_output=True)
    written = sorted(tmp_path.iterdir())
    names = {path.name.removeprefix("sbom-").removesuffix(".cdx.json") for path in written}
    assert names == {"wheel", *(path.parent.name for path in ROOT.glob("deploy/*/requirements.lock"))}
    smallest = min(written, key=lambda path: path.stat().st_size)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(smallest.read_text()) is None
    for path in written:
        document = json.loads(path.read_text())
        references = {one["bom-ref"] for one in document["components"]}
        assert len(references) == len(document["components"]) > 10
        assert all(one["hashes"] for one in document["components"])
        assert set(document["dependencies"][0]["dependsOn"]) == references
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
    subprocess.run([sys.executable, ROOT / ".ci" / "sbom", tmp_path], check=True, capture_output=True)
    assert digests == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}


def test_what_scorecard_asks_of_a_repository_is_there() -> None:
    updated = {
        one["package-ecosystem"] for one in yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    }
    assert updated >= {"pip", "github-actions", "docker"}
    scanning = str(workflow("scanning"))
    assert "codeql-action/analyze" in scanning
    assert "scorecard-action" in scanning
    assert "security advisories" in (ROOT / "SECURITY.md").read_text()
