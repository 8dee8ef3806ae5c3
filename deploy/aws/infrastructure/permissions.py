"""What each process may do at AWS: the one table that roles are made of, and that recorded calls are compared with.

A row is one permission: the part of the process that fails without it, actions, and resources by the names of `resources()`.
There is no wildcard but the end of a prefix of objects, and those that AWS itself demands, which are listed with the reason.
"""

from collections.abc import Mapping
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
    "function": Host(
        "answers prediction requests as a Lambda", "lambda.amazonaws.com", ("s3", "sqs", "secretsmanager")
    ),
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
    "logs:DescribeLogGroups": "EMR Serverless looks a log group up by listing, which knows no resource",
    **dict.fromkeys(
        (
            "ec2:CreateNetworkInterface",
            "ec2:CreateNetworkInterfacePermission",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeVpcs",
            "ec2:DescribeDhcpOptions",
            "ec2:DescribeSubnets",
            "ec2:DescribeSecurityGroups",
            "ec2:AssignPrivateIpAddresses",
            "ec2:UnassignPrivateIpAddresses",
        ),
        "the host asks for it when it joins the network, before there is an interface to name; descriptions know no resource",
    ),
}
"""Actions that AWS allows on `*` only, and why."""


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


READ, WRITE, DELETE, FIND = "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"

PARTS: Final[Mapping[str, str]] = {
    "audit": "the log of who did what",
    "catalogue": "the contents, and which are withdrawn",
    "commits": "the lake's commits",
    "erasing": "erasures that were asked for",
    "erasures": "tombstones of erased users",
    "events": "the events of the lake",
    "features": "the features of the lake",
    "leases": "leases and announcements of work",
    "mappings": "the id mapping of a model",
    "models": "models",
    "quarantine": "records that are no events",
    "registry": "Feast's registries",
    "releases": "the release book",
    "reports": "reports",
    "retraining.json": "the place where a retraining goes on",
    "sagemaker": "what training jobs leave",
    "served": "the served log",
    "simulation": "the truth of simulated data",
    "snapshots": "training sets",
    "stream": "the stream's notes and the write targets",
    "tables": "compacted tables",
    "users": "who agreed to pushes",
    "vacuum": "the vacuum's notes",
}
"""What lies in each folder of the lake: the part of a process that fails when it may not."""
_LETTERS = {"r": READ, "w": WRITE, "d": DELETE}


def _lake(**folders: str) -> tuple[Permission, ...]:
    """Return a permission per folder: which of r, w and d a process needs there, and the listing that each needs."""
    found = [Permission("Find", "finding objects of the lake", (FIND,), ("{bucket}",))]
    for folder, letters in folders.items():
        name = "retraining.json" if folder == "retraining" else folder
        place = "{registry}/*" if name == "registry" else "{lake}/" + (name if "." in name else f"{name}/*")
        found.append(Permission(folder.title(), PARTS[name], tuple(_LETTERS[letter] for letter in letters), (place,)))
    return tuple(found)


def _queue(name: str, part: str, *actions: str) -> Permission:
    return Permission(
        f"{name.title().replace('_', '')}Queue", part, tuple(f"sqs:{action}" for action in actions), (f"{{{name}}}",)
    )


_SECRETS = Permission("Secrets", "the settings that are secret", ("secretsmanager:GetSecretValue",), ("{settings}",))
_METRICS = Permission("Metrics", "the collector's writing", ("aps:RemoteWrite",), ("{metrics}",))
_PUBLISH = Permission("Publish", "taking events over HTTP", ("kinesis:PutRecords",), ("{stream}",))
_CALL_MODEL = Permission("Rank", "ranking at an endpoint", ("sagemaker:InvokeEndpoint",), ("{endpoints}",))
_PUSH = _queue("pushes", "sending pushes", "GetQueueUrl", "SendMessage")
_BURY = _queue("dead_predictions", "giving up a request", "GetQueueUrl", "SendMessage")
_READ_RELEASE = {"catalogue": "r", "commits": "r", "mappings": "r", "models": "r", "releases": "r", "erasures": "r"}
_RELEASE = {
    "audit": "rw", "catalogue": "r", "commits": "rw", "erasures": "r", "events": "r", "features": "r", "leases": "rwd",
    "mappings": "rw", "models": "rw", "registry": "rwd", "releases": "rwd", "reports": "rw", "retraining": "rw",
    "sagemaker": "r", "served": "r", "simulation": "r", "snapshots": "rw", "stream": "rw", "tables": "r", "users": "r",
}  # fmt: skip
_SAGEMAKER = (
    Permission(
        "TrainingJobs",
        "training at SageMaker",
        ("sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"),
        ("{training_jobs}",),
    ),
    Permission("EndpointModels", "making a model", ("sagemaker:CreateModel", "sagemaker:DeleteModel"), ("{models}",)),
    Permission(
        "EndpointConfigs",
        "making an endpoint's configuration",
        ("sagemaker:CreateEndpointConfig", "sagemaker:DeleteEndpointConfig"),
        ("{endpoint_configs}",),
    ),
    Permission(
        "Endpoints",
        "putting a model behind an endpoint",
        (
            "sagemaker:CreateEndpoint",
            "sagemaker:UpdateEndpoint",
            "sagemaker:DescribeEndpoint",
            "sagemaker:DeleteEndpoint",
        ),
        ("{endpoints}", "{endpoint_configs}"),
    ),
    Permission("AsSagemaker", "giving SageMaker its role", ("iam:PassRole",), ("{sagemaker_role}",)),
)
_ERASURE = (
    Permission("EraseObjects", "erasing a user in the lake", (READ, WRITE, DELETE), ("{lake}/*",)),
    Permission("EraseRegistry", "erasing beside registries", (READ,), ("{registry}/*",)),
    Permission(
        "EraseVersions", "erasing former versions", ("s3:GetObjectVersion", "s3:DeleteObjectVersion"), ("{lake}/*",)
    ),
    Permission(
        "FindVersions",
        "finding former versions, and saying until when they stay",
        (FIND, "s3:ListBucketVersions", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"),
        ("{bucket}",),
    ),
    Permission(
        "StreamKeeps", "saying how long the stream keeps events", ("kinesis:DescribeStreamSummary",), ("{stream}",)
    ),
    Permission(
        "QueuesKeep",
        "saying how long queues keep messages",
        ("sqs:GetQueueUrl", "sqs:GetQueueAttributes"),
        ("{predictions}", "{dead_predictions}", "{pushes}", "{served}"),
    ),
)

PROCESSES: Final[Mapping[str, tuple[Permission, ...]]] = {
    "service": (_SECRETS, _METRICS, _PUBLISH, _CALL_MODEL, *_ERASURE),
    "worker": (
        _SECRETS,
        _CALL_MODEL,
        *_lake(**(_READ_RELEASE | {"commits": "rw", "served": "w", "users": "r"})),
        _queue(
            "predictions",
            "taking requests",
            "GetQueueUrl",
            "GetQueueAttributes",
            "ReceiveMessage",
            "DeleteMessage",
            "ChangeMessageVisibility",
            "SendMessage",
        ),
        _BURY,
        _PUSH,
        _queue("served", "taking over what functions served", "GetQueueUrl", "ReceiveMessage", "DeleteMessage"),
    ),
    "function": (
        _SECRETS,
        _CALL_MODEL,
        *_lake(**(_READ_RELEASE | {"commits": "rw", "served": "w", "users": "r"})),
        _queue(
            "predictions",
            "taking requests",
            "GetQueueUrl",
            "GetQueueAttributes",
            "ReceiveMessage",
            "DeleteMessage",
            "ChangeMessageVisibility",
            "SendMessage",
        ),
        _BURY,
        _PUSH,
        _queue("served", "handing over what it served", "GetQueueUrl", "SendMessage"),
        Permission("Log", "writing its log", ("logs:CreateLogStream", "logs:PutLogEvents"), ("{function_log}",)),
        Permission(
            "Join",
            "joining the network",
            (
                "ec2:CreateNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSubnets",
                "ec2:DeleteNetworkInterface",
                "ec2:AssignPrivateIpAddresses",
                "ec2:UnassignPrivateIpAddresses",
            ),
            ("*",),
        ),
    ),
    "console": (_SECRETS, *_lake(**_RELEASE), *_ERASURE),
    "stream": (
        _SECRETS,
        _METRICS,
        *_lake(
            catalogue="r",
            commits="rw",
            erasures="r",
            events="rw",
            features="rw",
            leases="rwd",
            quarantine="w",
            releases="r",
            stream="rw",
            tables="r",
        ),
        Permission(
            "ReadEvents",
            "reading events",
            ("kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"),
            ("{stream}",),
        ),
        _queue("predictions", "asking for predictions", "GetQueueUrl", "SendMessage"),
        Permission(
            "Checkpoint",
            "mounting the checkpoint's file system",
            ("elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"),
            ("{files}",),
        ),
    ),
    "daily": (
        _SECRETS,
        *_lake(
            catalogue="r",
            commits="rwd",
            erasures="r",
            events="rwd",
            features="rwd",
            leases="rwd",
            mappings="rd",
            models="rd",
            quarantine="rwd",
            releases="rwd",
            served="rwd",
            snapshots="r",
            stream="r",
            tables="rwd",
            users="r",
            vacuum="rw",
        ),
        Permission(
            "Log",
            "writing its log",
            ("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"),
            ("{daily_log}",),
        ),
        Permission("FindLog", "finding its log", ("logs:DescribeLogGroups",), ("*",)),
    ),
    "release": (_SECRETS, *_lake(**_RELEASE), *_SAGEMAKER, _CALL_MODEL),
    "privacy": (_SECRETS, *_ERASURE),
    "sagemaker": (
        Permission(
            "Data", "training sets and models", (READ,), ("{lake}/snapshots/*", "{lake}/models/*", "{lake}/sagemaker/*")
        ),
        Permission("Find", "finding a training set", (FIND,), ("{bucket}",)),
        Permission("Artifacts", "leaving a trained model", (WRITE,), ("{lake}/sagemaker/*",)),
        Permission(
            "Image",
            "starting its image",
            ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"),
            ("{sagemaker_image}",),
        ),
        Permission("LogIn", "logging in to the registry", ("ecr:GetAuthorizationToken",), ("*",)),
        Permission(
            "Log",
            "writing its log",
            ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
            ("{sagemaker_log}",),
        ),
        Permission(
            "Join",
            "joining the network",
            (
                "ec2:CreateNetworkInterface",
                "ec2:CreateNetworkInterfacePermission",
                "ec2:DeleteNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeVpcs",
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeSubnets",
                "ec2:DescribeSecurityGroups",
            ),
            ("*",),
        ),
    ),
}
"""The permissions of each process. `tests/golden/aws_calls.json` holds the calls that were recorded, by process."""
