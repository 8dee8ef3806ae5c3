"""Alerts and dashboard ask for metrics that are really exported, and promtool accepts the rules."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from inference.http.metrics import Metrics
from ingestion.metrics import StreamMetrics
from validation.parity_run import ParityReport, metrics_text

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "stillpoint.rules.yml"
FROM_CLOUDWATCH = {"aws_sqs_approximate_number_of_messages_visible_maximum"}


def exported() -> set[str]:
    """Return the names of all samples that our processes can export."""
    names: set[str] = set()
    for registry in (StreamMetrics().registry, Metrics().registry):
        for family in registry.collect():
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            names |= {family.name + suffix for suffix in suffixes}
    report = ParityReport.model_construct(at=datetime.now(UTC), predictions=1, unexplained=0, stale=0)
    return names | set(re.findall(r"^(\w+) ", metrics_text(report), re.M))


def asked(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:stillpoint|aws)_\w+", re.sub(r'"[^"]*"', "", expression)))


def test_every_alert_and_panel_asks_for_a_metric_that_exists() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOY / "grafana" / "stillpoint.json").read_text())
    expressions = [rule["expr"] for rule in rules]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    known = exported() | FROM_CLOUDWATCH
    for expression in expressions:
        assert asked(expression), expression
        assert asked(expression) <= known, f"{expression}: {asked(expression) - known}"


def test_every_alert_says_what_to_do_and_the_dashboard_overlaps_nowhere() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert set(rule["annotations"]) == {"summary", "action", "runbook"}
    panels = json.loads((DEPLOY / "grafana" / "stillpoint.json").read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})
    assert all(panel["description"] and panel["title"] for panel in panels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_accepts_the_rules_and_their_tests() -> None:
    for arguments in (["check", "rules", RULES.name], ["test", "rules", "stillpoint.rules.test.yml"]):
        done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
