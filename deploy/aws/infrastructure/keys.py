"""The key that everything at rest is encrypted with."""

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infrastructure.base import ConcernStack
from infrastructure.environment import Environment


class Keys(ConcernStack):
    """One customer key, rotated every year. Logs, topics and failure notices of this account may use it."""

    def __init__(self, scope: Construct, environment: Environment) -> None:
        super().__init__(scope, "keys", environment, "the key of everything at rest")
        self.key = kms.Key(
            self,
            "Data",
            alias=f"{environment.prefix}/data",
            description="Everything that Stillpoint keeps",
            enable_key_rotation=True,
            removal_policy=self.removal,
        )
        logs = f"arn:{self.partition}:logs:{self.region}:{self.account}:*"
        self.key.grant_encrypt_decrypt(
            iam.ServicePrincipal(
                f"logs.{self.region}.amazonaws.com",
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": logs}},
            )
        )
        for service in ("events", "cloudwatch", "aps"):  # they publish notices to the encrypted topic
            self.key.grant_encrypt_decrypt(
                iam.ServicePrincipal(
                    f"{service}.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
                )
            )
