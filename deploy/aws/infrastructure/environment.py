"""One environment: where it runs, and how large it is. Read from a TOML file, and refused whole with every fault it has.

The defaults are small: two zones, one NAT gateway, one shard, the smallest caches, one task of each process.
"""

import re
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from infrastructure.refused import InfrastructureRefused

LARGEST_TASK = 16_384


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Between how many tasks or instances a part may scale."""

    least: int = 1
    most: int = 4


class ServedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model behind a SageMaker endpoint: its bundle in the lake, and between how many instances it scales."""

    data: str
    instance: str = "ml.m5.large"
    least: int = 1
    most: int = 4
    calls_per_minute: int = 6_000
    """Calls a minute that one instance shall get; more, and another is started."""


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything by which two environments differ."""

    name: str
    account: str = ""
    region: str = ""
    notify: str = ""
    """The e-mail address that hears of alarms and failures; AWS asks it to confirm."""
    certificate: str = ""
    """ARN of the certificate (ACM) that the service's load balancer shows."""
    images: str = ""
    """The tag of the images in the registry: the version that a release pipeline pushed."""

    zones: int = 2
    nat_gateways: int = 1
    event_shards: int = 1
    event_hours: int = 48
    cache_node: str = "cache.t4g.small"
    cache_copies: int = 1
    """Replicas of each Redis. With none, a failed node is an outage until ElastiCache has replaced it."""
    service_tasks: Span = Span(least=1, most=4)
    worker_tasks: Span = Span(least=1, most=4)
    predictor: Literal["worker", "function"] = "worker"
    """Who answers prediction requests: tasks of `stillpoint worker`, or the Lambda."""
    function_seconds: int = 30
    function_at_once: int = 10
    stream_cpu: int = 2_048
    stream_memory: int = 8_192
    log_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365] = 365
    keep_data: bool = False
    """Whether bucket, streams, keys and file system outlive their stacks."""
    model: ServedModel | None = None

    endpoint: str = "aws"
    """Where AWS answers; another one for a stand-in."""
    redis: str = ""
    """A Redis that is there already, instead of ElastiCache; one connection string for every use."""

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return f"stillpoint-{self.name}"


def load(path: Path) -> Environment:
    """Read an environment.

    Raises:
        InfrastructureRefused: names every fault of the file, each with what would be right.
    """
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Environment)
    except OSError as error:
        raise InfrastructureRefused(
            f"{path}: {error.strerror or error}; copy deploy/aws/environments/example.toml"
        ) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InfrastructureRefused(f"{path}: {error}") from None
    faults = list(_faults(found))
    if faults:
        raise InfrastructureRefused(f"{path} is refused; " + "; ".join(faults))
    return found


def _faults(one: Environment) -> list[str]:
    faults = []
    if not one.account:
        faults.append(
            'account is missing: add `account = "…"` with the twelve digits that `aws sts get-caller-identity` prints'
        )
    elif not re.fullmatch(r"\d{12}", one.account):
        faults.append(f"account is {one.account!r}; expected twelve digits, in quotes")
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", one.region):
        faults.append(f"region is {one.region!r}; expected a region's name, such as us-east-1")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", one.name):
        faults.append(f"name is {one.name!r}; expected up to 16 small letters, digits and hyphens")
    if "@" not in one.notify:
        faults.append(f"notify is {one.notify!r}; expected the e-mail address that hears of alarms")
    if not re.fullmatch(r"arn:aws[\w-]*:acm:[\w-]+:\d{12}:certificate/[\w-]+", one.certificate):
        faults.append(
            f"certificate is {one.certificate!r}; expected the ARN of a certificate in ACM, since the service answers by TLS only"
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,127}", one.images) or one.images == "latest":
        faults.append(f"images is {one.images!r}; expected the tag of a release, such as 0.1.0: `latest` names nothing")
    if one.zones < 2:
        faults.append(f"zones is {one.zones}; expected at least 2, or the loss of one is an outage")
    if not 1 <= one.nat_gateways <= one.zones:
        faults.append(f"nat_gateways is {one.nat_gateways}; expected 1 to {one.zones}, one a zone at most")
    if not 0 <= one.cache_copies <= 5:
        faults.append(f"cache_copies is {one.cache_copies}; expected 0 to 5")
    for name, span in (("service_tasks", one.service_tasks), ("worker_tasks", one.worker_tasks), ("model", one.model)):
        if span is not None and not 1 <= span.least <= span.most:
            faults.append(f"{name} scales from {span.least} to {span.most}; expected 1 ≤ least ≤ most")
    if one.model is not None and not re.fullmatch(r"s3://[^/]+/.+/models/[0-9a-f]{64}\.tar\.gz", one.model.data):
        faults.append(
            f"model.data is {one.model.data!r}; expected the bundle in the lake, s3://…/models/<sha256>.tar.gz"
        )
    if not 1 <= one.function_seconds <= 900:
        faults.append(
            f"function_seconds is {one.function_seconds}; expected 1 to 900, which is as long as a Lambda runs"
        )
    if not 24 <= one.event_hours <= 8_760:
        faults.append(
            f"event_hours is {one.event_hours}; expected 24 to 8760, which is as long as Kinesis keeps events"
        )
    return faults
