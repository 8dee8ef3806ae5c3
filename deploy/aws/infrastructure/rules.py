"""The alarms of CloudWatch and of the workspace, both from the one file of rules, `deploy/prometheus/stillpoint.rules.yml`.

What asks for metrics of our processes goes to Amazon's Prometheus word for word. What asks for a metric of AWS itself
(`aws_sqs_…`, which Prometheus has only through an exporter) becomes an alarm of CloudWatch on the same metric.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infrastructure.refused import InfrastructureRefused

RULES = Path(__file__).parents[2] / "prometheus" / "stillpoint.rules.yml"
_OF_AWS = re.compile(
    r"(?P<function>max|sum)\(aws_sqs_(?P<metric>[a-z_]+)_(?P<statistic>maximum|sum|average)"
    r'\{queue_name="(?P<queue>[\w-]+)"\}\) > (?P<threshold>\d+)'
)
_SECONDS = {"s": 1, "m": 60, "h": 3_600}


@dataclass(frozen=True, slots=True)
class CloudWatchRule:
    """A rule on a metric of SQS."""

    name: str
    metric: str
    statistic: str
    queue: str
    threshold: int
    minutes: int
    severity: str
    summary: str
    action: str


def of_the_workspace(path: Path = RULES) -> str:
    """Return the rules that Amazon's Prometheus evaluates, as YAML: the file without those of CloudWatch."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group in document["groups"]:
        group["rules"] = [rule for rule in group["rules"] if "aws_" not in rule["expr"]]
    return yaml.safe_dump(document, sort_keys=False, width=10_000)


def of_cloudwatch(path: Path = RULES) -> Iterator[CloudWatchRule]:
    """Yield the rules that ask for metrics of AWS.

    Raises:
        InfrastructureRefused: a rule asks for them in a way that no alarm of CloudWatch can say.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for rule in (rule for group in document["groups"] for rule in group["rules"] if "aws_" in rule["expr"]):
        found = _OF_AWS.fullmatch(rule["expr"].strip())
        if found is None:
            raise InfrastructureRefused(
                f"{path.name}, rule {rule['alert']}: CloudWatch has no alarm for {rule['expr']!r}; expected "
                '`max(aws_sqs_<metric>_maximum{queue_name="…"}) > <number>`, or a metric of our own processes'
            )
        yield _rule(rule, found.groupdict())


def _rule(rule: Mapping[str, Any], found: Mapping[str, str]) -> CloudWatchRule:
    lasting = re.fullmatch(r"(\d+)([smh])", rule.get("for", "1m"))
    assert lasting is not None, f"{rule['alert']}: for is {rule['for']!r}"
    return CloudWatchRule(
        name=rule["alert"],
        metric="".join(word.title() for word in found["metric"].split("_")),
        statistic=found["statistic"].title(),
        queue=found["queue"],
        threshold=int(found["threshold"]),
        minutes=max(1, int(lasting[1]) * _SECONDS[lasting[2]] // 60),
        severity=rule["labels"]["severity"],
        summary=rule["annotations"]["summary"],
        action=rule["annotations"]["action"],
    )
