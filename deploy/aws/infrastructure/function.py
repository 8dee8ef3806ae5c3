"""The prediction worker as a Lambda, fed by the queue."""

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as functions
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infrastructure.base import ConcernStack, waive_for_checkov
from infrastructure.environment import Environment
from infrastructure.network import DAYS, Network

MEMORY = 3_008
BATCH = 10


class Function(ConcernStack):
    """The image `lambda` behind the queue of prediction requests; what fails comes back alone."""

    def __init__(
        self,
        scope: Construct,
        environment: Environment,
        key: kms.IKey,
        *,
        network: Network,
        repository: ecr.Repository,
        role: iam.Role,
        settings: dict[str, str],
        predictions: sqs.Queue,
    ) -> None:
        super().__init__(scope, "function", environment, "predictions by a Lambda")
        name = f"{environment.prefix}-predict"
        group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/{environment.prefix}/function",
            encryption_key=key,
            retention=DAYS[environment.log_days],
            removal_policy=self.removal,
        )
        self.function = functions.DockerImageFunction(
            self,
            "Predict",
            function_name=name,
            code=functions.DockerImageCode.from_ecr(repository, tag_or_digest=environment.images),
            architecture=functions.Architecture.ARM_64,
            memory_size=MEMORY,
            timeout=Duration.seconds(environment.function_seconds),
            environment={k: v for k, v in settings.items() if not k.startswith("AWS_")},
            environment_encryption=key,
            role=role.without_policy_updates(),
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
            security_groups=[network.processes],
            reserved_concurrent_executions=environment.function_at_once,
            log_group=group,
            tracing=functions.Tracing.DISABLED,
        )
        waive_for_checkov(
            self.function,
            "CKV_AWS_116",
            "a dead-letter queue of the function is for calls that nobody waits for; the queue before it has its own",
        )
        self.function.add_event_source(
            sources.SqsEventSource(
                predictions,
                batch_size=BATCH,
                report_batch_item_failures=True,
                max_concurrency=max(2, environment.function_at_once),
            )
        )
