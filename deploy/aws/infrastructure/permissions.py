"""What each process may do at AWS: the one table that roles are made of, and that recorded calls are compared with.

A row is one permission: the part of the process that fails without it, actions, and resources by the names of `resources()`.
There is no wildcard but the end of a prefix of objects, and those that AWS itself demands, which are listed with the reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from infrastructure.refused import InfrastructureRefused


@dataclass(frozen=True, slots=True)
class Permission:
    """One thing that a process does: without it, `part` fails."""

    sid: str
    part: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """Where a process runs, and which services encrypt on its behalf. Without a `service` an operator takes the role."""

    what: str
    service: str | None
    encrypted: tuple[str, ...]


TASKS = "ecs-tasks.amazonaws.com"
HOSTS: Final[Mapping[str, Host]] = {
    "service": Host("answers over HTTP", TASKS, ("s3", "kinesis", "secretsmanager")),
    "worker": Host("answers prediction requests from the queue", TASKS, ("s3", "sqs", "secretsmanager")),
    "function": Host("answers prediction requests as a Lambda", "lambda.amazonaws.com", ("s3", "sqs", "secretsmanager")),
    "console": Host("shows all of it to an operator", TASKS, ("s3", "secretsmanager")),
    "stream": Host(
        "makes features from events", TASKS, ("s3", "kinesis", "sqs", "secretsmanager", "elasticfilesystem")
    ),
    "daily": Host(
        "daily views, compaction and vacuum", "emr-serverless.amazonaws.com", ("s3", "secretsmanager", "logs")
    ),
    "release": Host("retrains, checks and switches releases", None, ("s3", "secretsmanager")),
    "privacy": Host("erases and exports users", None, ("s3", "sqs", "secretsmanager")),
    "sagemaker": Host("trains, and answers behind endpoints", "sagemaker.amazonaws.com", ("s3",)),
}

WITHOUT_RESOURCE: Final[Mapping[str, str]] = {
    "ecr:GetAuthorizationToken": "the token is the account's: AWS knows no resource for it",
    "ec2:CreateNetworkInterface": "Lambda asks for it when it joins the network, before there is an interface to name",
}
"""Actions that AWS allows on `*` only, and why."""


def _find(*folders: str) -> Permission:
    return Permission("Find", "listing the lake", ("s3:ListBucket",), ("{bucket}",))


def refuse_wildcards(processes: Mapping[str, tuple[Permission, ...]]) -> None:
    """Refuse an action with a wildcard, and a resource that is `*` without a reason.

    Raises:
        InfrastructureRefused: names the process, the permission and what to write instead.
    """
    for process, permissions in processes.items():
        for one in permissions:
            for action in one.actions:
                if "*" in action or "?" in action:
                    raise InfrastructureRefused(
                        f"role {process}, permission {one.sid}: the action {action} has a wildcard; name each action that "
                        "the process calls, as tests/golden/aws_calls.json records them"
                    )
                if "*" in one.resources and action not in WITHOUT_RESOURCE:
                    raise InfrastructureRefused(
                        f"role {process}, permission {one.sid}: {action} is allowed on every resource; name its resources, "
                        "or give the reason in WITHOUT_RESOURCE"
                    )
            for resource in one.resources:
                if resource != "*" and "*" in resource[:-1]:
                    raise InfrastructureRefused(
                        f"role {process}, permission {one.sid}: {resource} has a wildcard within; it may end in one only"
                    )


_SECRETS = Permission(
    "Secrets", "the settings that are secret", ("secretsmanager:GetSecretValue",), ("{settings}",)
)
_METRICS = Permission("Metrics", "the collector's writing", ("aps:RemoteWrite",), ("{metrics}",))
PROCESSES: Final[Mapping[str, tuple[Permission, ...]]] = {
    name: (_SECRETS, Permission("Lake", "the lake", ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), ("{lake}/*",)))
    for name in HOSTS
}
