"""The lake's bucket, and the one that its access is logged to."""

from aws_cdk import Duration
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infrastructure.base import ConcernStack, waive, waive_for_checkov
from infrastructure.environment import Environment

LAKE, REGISTRY, MLFLOW = "lake", "registry", "mlflow"
"""Folders of the bucket."""
LOG_DAYS = 90
UNFINISHED_DAYS = 7
OLD_VERSION_DAYS = 30
COLD_DAYS = 90


class Storage(ConcernStack):
    """A bucket that nobody outside reaches, by TLS only, encrypted with our key. What is overwritten is kept for a month."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey) -> None:
        super().__init__(scope, "storage", environment, "the lake")
        places = f"{environment.account}-{environment.region}"
        self.logged = s3.Bucket(
            self,
            "Logs",
            bucket_name=f"{environment.prefix}-logs-{places}",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            versioned=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(LOG_DAYS),
                    noncurrent_version_expiration=Duration.days(1),
                    abort_incomplete_multipart_upload_after=Duration.days(UNFINISHED_DAYS),
                )
            ],
            removal_policy=self.removal,
        )
        endless = "it holds the access logs of the other bucket; logging it would never end"
        waive(self.logged, "AwsSolutions-S1", endless)
        waive_for_checkov(self.logged, "CKV_AWS_18", endless)
        self.bucket_name = f"{environment.prefix}-lake-{places}"
        self.bucket = s3.Bucket(
            self,
            "Lake",
            bucket_name=self.bucket_name,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            server_access_logs_bucket=self.logged,
            server_access_logs_prefix="lake/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="forget",
                    noncurrent_version_expiration=Duration.days(OLD_VERSION_DAYS),
                    expired_object_delete_marker=True,
                    abort_incomplete_multipart_upload_after=Duration.days(UNFINISHED_DAYS),
                ),
                s3.LifecycleRule(
                    id="cold",
                    prefix=f"{LAKE}/tables/",
                    transitions=[
                        s3.Transition(
                            storage_class=s3.StorageClass.INTELLIGENT_TIERING,
                            transition_after=Duration.days(COLD_DAYS),
                        )
                    ],
                ),
            ],
            removal_policy=self.removal,
        )
        self.setting("lake", f"s3://{self.bucket_name}/{LAKE}")
        self.setting("registry", f"s3://{self.bucket_name}/{REGISTRY}")
        self.setting("aws_endpoint_url", environment.endpoint)
        self.setting("sagemaker_endpoint_url", environment.endpoint)
        self.setting("aws_region", environment.region)
