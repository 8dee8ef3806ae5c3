"""The file system of the stream's checkpoint, which outlives every task and machine."""

from aws_cdk import aws_efs as efs
from aws_cdk import aws_kms as kms
from constructs import Construct

from infrastructure.base import ConcernStack
from infrastructure.environment import Environment
from infrastructure.network import Network

USER = "10001"
"""Whom every image of ours runs as."""


class Files(ConcernStack):
    """EFS, encrypted, backed up every day; the stream's role alone may mount it, at one access point."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey, network: Network) -> None:
        super().__init__(scope, "files", environment, "the stream's checkpoint")
        self.system = efs.FileSystem(
            self,
            "Home",
            vpc=network.vpc,
            security_group=network.files,
            encrypted=True,
            kms_key=key,
            enable_automatic_backups=True,
            allow_anonymous_access=False,
            removal_policy=self.removal,
        )
        self.point = self.system.add_access_point(
            "Stream",
            path="/stream",
            create_acl=efs.Acl(owner_uid=USER, owner_gid=USER, permissions="700"),
            posix_user=efs.PosixUser(uid=USER, gid=USER),
        )
