"""Roles allow what each process was seen to do, and nothing else: calls recorded at the AWS stand-in, decided by its IAM."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import HERE, Templates
from infrastructure.permissions import PROCESSES, WITHOUT_RESOURCE, Permission

ROOT = HERE.parents[1]
CALLS: dict[str, dict[str, Any]] = json.loads((HERE / "calls.json").read_text())
Call = tuple[str, str]
Of = Callable[[str], Templates]


def calls_of(process: str) -> list[Call]:
    """Return the calls of a process, recorded and not, as action and resource by name."""
    lines = [*CALLS[process]["recorded"], *CALLS[process]["not recorded"]]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def covers(permission: Permission, call: Call) -> bool:
    """Say whether a row of the table is about a call."""
    return call[0] in permission.actions and any(
        call[1] == one or (one.endswith("*") and call[1].startswith(one[:-1])) for one in permission.resources
    )


def statements(templates: Templates, process: str) -> dict[str, dict[str, Any]]:
    """Return the statements of a process's role by their sid, references written as texts."""
    (policy,) = [
        one["Properties"]
        for one in templates["roles"]["Resources"].values()
        if one["Type"] == "AWS::IAM::Policy" and one["Properties"]["Roles"][0]["Ref"].startswith(process.title())
    ]
    return {one["Sid"]: _literal(one) for one in policy["PolicyDocument"]["Statement"]}


def _literal(value: Any) -> Any:
    if isinstance(value, dict):
        if "Fn::ImportValue" in value:
            return f"arn:aws:import:::{value['Fn::ImportValue'].rpartition(':')[2]}"
        return {name: _literal(one) for name, one in value.items()}
    return [_literal(one) for one in value] if isinstance(value, list) else value


def decide(policies: dict[str, list[dict[str, Any]]], calls: list[tuple[str, str, str]]) -> list[bool]:
    """Ask the stand-in's IAM about calls, each of a policy by its name."""
    documents = {name: {"Version": "2012-10-17", "Statement": found} for name, found in policies.items()}
    asked = {"policies": documents, "calls": [[*one, {}] for one in calls]}
    done = subprocess.run(
        [ROOT / ".venv-aws" / "bin" / "python", "-I", HERE / "tests" / "simulate.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return list(json.loads(done.stdout))


class Role:
    """A role of the template beside its rows of the table."""

    def __init__(self, templates: Templates, process: str) -> None:
        self.process = process
        self.statements = statements(templates, process)
        self.key = self.statements.pop("Encryption")
        self.names: dict[str, str] = {}
        for permission in PROCESSES[process]:
            found = self.statements[permission.sid]["Resource"]
            found = found if isinstance(found, list) else [found]
            self.names.update(zip(permission.resources, found, strict=True))

    def resource(self, named: str) -> str:
        """Return the ARN that a call's resource is, with an object's name below a prefix."""
        for name, arn in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            if named == name:
                return arn.replace("*", "an-object") if named != "*" else "*"
            if name.endswith("/*") and named.startswith(name[:-1]):
                return arn.removesuffix("*") + named.removeprefix(name[:-1]).replace("*", "an-object")
        return f"arn:aws:other:::{named}"


@pytest.fixture(scope="module")
def roles(templates: Of) -> dict[str, Role]:
    return {process: Role(templates("production"), process) for process in PROCESSES}


def test_every_process_has_its_calls_and_its_role(templates: Of) -> None:
    assert list(CALLS) == list(PROCESSES)
    named = {
        one["Properties"]["RoleName"].removeprefix("stillpoint-production-")
        for one in templates("production")["roles"]["Resources"].values()
        if one["Type"] == "AWS::IAM::Role"
    }
    assert named == set(PROCESSES)


def test_a_role_allows_exactly_the_calls_of_its_process(roles: dict[str, Role]) -> None:
    everything = sorted({call for process in PROCESSES for call in calls_of(process)})
    policies = {process: list(role.statements.values()) for process, role in roles.items()}
    asked = [(process, call) for process in PROCESSES for call in everything]
    allowed = decide(policies, [(p, call[0], roles[p].resource(call[1])) for p, call in asked])
    wrong = [
        f"{process} {'may' if found else 'may not'} {' '.join(call)}"
        for (process, call), found in zip(asked, allowed, strict=True)
        if found != any(covers(one, call) for one in PROCESSES[process])
    ]
    assert wrong == []
    assert sum(allowed) > 200
    assert allowed.count(False) > 200


def test_no_process_lacks_a_call_and_no_permission_is_without_one() -> None:
    for process, permissions in PROCESSES.items():
        calls = calls_of(process)
        lacking = [call for call in calls if not any(covers(one, call) for one in permissions)]
        assert lacking == [], process
        for one in permissions:
            for action in one.actions:
                for resource in one.resources:
                    needed = any(covers(Permission(one.sid, one.part, (action,), (resource,)), call) for call in calls)
                    assert needed, f"{process}: nothing calls {action} on {resource}; take it out"


def without(role: Role) -> Iterator[tuple[Permission, str, str, list[dict[str, Any]]]]:
    """Yield a role's policy without one action on one resource, for each that the table has."""
    for permission in PROCESSES[role.process]:
        for action in permission.actions:
            for resource in permission.resources:
                kept = []
                for sid, statement in role.statements.items():
                    if sid != permission.sid:
                        kept.append(statement)
                        continue
                    others = [one for one in permission.actions if one != action]
                    rest = [role.names[one] for one in permission.resources if one != resource]
                    if others:
                        kept.append({**statement, "Action": others})
                    if rest:
                        kept.append({**statement, "Action": [action], "Resource": rest})
                yield permission, action, resource, kept


@pytest.mark.parametrize("process", list(PROCESSES))
def test_taking_away_any_one_permission_fails_the_part_that_it_names(roles: dict[str, Role], process: str) -> None:
    role = roles[process]
    calls = calls_of(process)
    cases = list(without(role))
    policies = {str(number): kept for number, (_, _, _, kept) in enumerate(cases)}
    asked = [
        (str(number), action, role.resource(resource)) for number in range(len(cases)) for action, resource in calls
    ]
    allowed = iter(decide(policies, asked))
    for permission, action, resource, _ in cases:
        denied = [call for call in calls if not next(allowed)]
        beside = [one for one in PROCESSES[process] if one is not permission]
        failing = {one.part for call in denied for one in PROCESSES[process] if covers(one, call) and one not in beside}
        only_here = [call for call in calls if call[0] == action and covers(permission, call)]
        if any(covers(one, call) for call in only_here for one in beside):
            continue  # what a narrower and a wider row both allow
        assert failing == {permission.part}, f"{process} without {action} on {resource}: {denied}"


def test_no_role_has_a_wildcard_beyond_prefixes_and_what_aws_demands(roles: dict[str, Role]) -> None:
    for process, role in roles.items():
        for statement in role.statements.values():
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not any("*" in action for action in actions)
            resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            for resource in resources:
                assert "*" not in resource[:-1], (process, resource)
                assert resource != "*" or set(actions) <= set(WITHOUT_RESOURCE), (process, statement["Sid"])
        assert role.key["Condition"]["StringEquals"]["kms:ViaService"], process


def test_a_call_that_was_not_recorded_says_why_it_is_known() -> None:
    for process, calls in CALLS.items():
        for call, reason in calls["not recorded"].items():
            assert len(reason.split()) > 3, f"{process}: {call}"
            for path in re.findall(
                r"\b(?:stillpoint|training|inference|release|ingestion|privacy|console)/[\w/.]*", reason
            ):
                assert (ROOT / path).exists(), f"{process}: {call}: {path}"
