"""A role per process, made from the table of permissions and nothing else."""

from collections.abc import Mapping

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infrastructure.base import ConcernStack, waive, waive_for_checkov
from infrastructure.environment import Environment
from infrastructure.permissions import HOSTS, PROCESSES, WITHOUT_RESOURCE, Permission, refuse_wildcards


class Roles(ConcernStack):
    """`roles` by process. Each may be taken by the host of its process alone, in this account."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey, resources: Mapping[str, str]) -> None:
        super().__init__(scope, "roles", environment, "one role per process")
        refuse_wildcards(PROCESSES)
        self.roles: dict[str, iam.Role] = {}
        for process, permissions in PROCESSES.items():
            if process == "function" and environment.predictor != "function":
                continue
            role = iam.Role(
                self,
                process.title(),
                role_name=f"{environment.prefix}-{process}",
                description=f"Of `{process}` alone: {HOSTS[process].what}",
                assumed_by=self._host(process),
            )
            self.roles[process] = role
            for permission in permissions:
                statement = self._statement(permission, resources)
                role.add_to_policy(statement)
            role.add_to_policy(
                iam.PolicyStatement(
                    sid="Encryption",
                    actions=["kms:Decrypt", "kms:GenerateDataKey"],
                    resources=[key.key_arn],
                    conditions={
                        "StringEquals": {
                            "kms:ViaService": [f"{one}.{self.region}.amazonaws.com" for one in HOSTS[process].encrypted]
                        }
                    },
                )
            )
            self._waive(role, permissions, resources)

    def _host(self, process: str) -> iam.IPrincipal:
        host = HOSTS[process].service
        if host is None:  # an operator or a pipeline of this account takes it, by a policy of their own
            return iam.AccountPrincipal(self.account)
        return iam.ServicePrincipal(host, conditions={"StringEquals": {"aws:SourceAccount": self.account}})

    def _statement(self, permission: Permission, resources: Mapping[str, str]) -> iam.PolicyStatement:
        return iam.PolicyStatement(
            sid=permission.sid,
            actions=list(permission.actions),
            resources=[one.format_map(resources) for one in permission.resources],
        )

    def _waive(self, role: iam.Role, permissions: tuple[Permission, ...], resources: Mapping[str, str]) -> None:
        policy = role.node.find_child("DefaultPolicy")
        for permission in permissions:
            for resource in permission.resources:
                if resource == "*":
                    reason = WITHOUT_RESOURCE[permission.actions[0]]
                    waive(policy, "AwsSolutions-IAM5[Resource::*]", reason)
                    if "Create" in "".join(permission.actions):
                        for rule in ("CKV_AWS_111", "CKV_AWS_109"):
                            waive_for_checkov(policy, rule, reason)
                elif (found := resource.format_map(resources)).endswith("*"):
                    waive(
                        policy,
                        f"AwsSolutions-IAM5[Resource::{found}]",
                        f"names below one prefix, which are made as the process goes on: {permission.part}",
                    )
