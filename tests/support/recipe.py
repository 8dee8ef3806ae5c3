"""Checks that what a recipe in `deploy/` names exists: settings, command lines, permissions."""

import json
import re

import botocore.session

from stillpoint.cli.root import command
from stillpoint.settings import Settings

SERVICES = {
    "kinesis": "kinesis",
    "sqs": "sqs",
    "sns": "sns",
    "secretsmanager": "secretsmanager",
    "elasticmapreduce": "emr",
    "states": "stepfunctions",
    "events": "events",
}
WITHOUT_OPERATION = {
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:ListBucket",
    "s3:GetBucketLocation",
    "s3:AbortMultipartUpload",
    "iam:PassRole",
    "elasticfilesystem:ClientMount",
    "elasticfilesystem:ClientWrite",
}
"""Permissions that are no operations of their own, or of services that are better not loaded here."""


def settings_exist(folder):
    """Return how many settings the files of a folder name; fail over one that `Settings` does not have."""
    known = {f"STILLPOINT_{name.upper()}" for name in Settings.model_fields} | {"STILLPOINT_ROOT"}
    files = [path for path in folder.iterdir() if path.is_file() and path.name != "requirements.txt"]
    named = {name for path in files for name in re.findall(r"STILLPOINT_[A-Z_]+", path.read_text())}
    assert named <= known, f"{folder}: {named - known}"
    return len(named)


def parses(arguments):
    """Let our command line read the arguments, down to the verb's own, without calling it."""
    group = command(arguments)
    context, rest = group.make_context("stillpoint", list(arguments)), list(arguments)
    while hasattr(group, "resolve_command"):
        name, group, rest = group.resolve_command(context, rest)
        context = group.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]
    assert not rest, f"{arguments}: {rest} is left over"


def actions_are_known(path):
    """Fail over a policy that allows everything of a service, everything everywhere, or an action that does not exist."""
    session = botocore.session.get_session()
    document = json.loads(path.read_text())
    assert document["Version"] == "2012-10-17"
    for statement in document["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        for action in actions:
            service, _, operation = action.partition(":")
            known = (
                action in WITHOUT_OPERATION or operation in session.get_service_model(SERVICES[service]).operation_names
            )
            assert known, f"{path.name}: {action} does not exist"
        # A cluster that does not exist yet has no name to allow.
        assert statement["Resource"] != "*" or actions == ["elasticmapreduce:RunJobFlow"], statement["Sid"]
