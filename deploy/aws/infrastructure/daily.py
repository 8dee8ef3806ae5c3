"""The daily work as a job of EMR Serverless: its schedule, and the notice when it fails."""

from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_emrserverless as serverless
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infrastructure.base import ConcernStack
from infrastructure.environment import Environment
from infrastructure.network import DAYS, Network

RELEASE = "emr-7.9.0"
JOBS = {
    "daily": (["daily"], "cron(30 0 * * ? *)"),
    "compact": (["events", "compact"], "cron(10 * * * ? *)"),
    "vacuum": (["vacuum"], "cron(0 3 * * ? *)"),
}
"""Verbs of `stillpoint`, and when each runs, UTC."""
MINUTES = 60
PYTHON = "/opt/venv/bin/python"


class Daily(ConcernStack):
    """An application that is there only while a job runs. Each job is started by the scheduler under a role of its own."""

    def __init__(
        self,
        scope: Construct,
        environment: Environment,
        key: kms.IKey,
        *,
        network: Network,
        role: iam.Role,
        repository: ecr.Repository,
        settings: dict[str, str],
        topic: sns.Topic,
        dead: sqs.IQueue,
    ) -> None:
        super().__init__(scope, "daily", environment, "the daily work")
        group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/{environment.prefix}/daily",
            encryption_key=key,
            retention=DAYS[environment.log_days],
            removal_policy=self.removal,
        )
        self.application = serverless.CfnApplication(
            self,
            "Jobs",
            name=f"{environment.prefix}-jobs",
            type="SPARK",
            release_label=RELEASE,
            architecture="ARM64",
            image_configuration={"imageUri": repository.repository_uri_for_tag(environment.images)},
            auto_start_configuration={"enabled": True},
            auto_stop_configuration={"enabled": True, "idleTimeoutMinutes": 5},
            maximum_capacity={"cpu": "16 vCPU", "memory": "64 GB", "disk": "200 GB"},
            network_configuration={
                "subnetIds": [one.subnet_id for one in network.vpc.private_subnets],
                "securityGroupIds": [network.processes.security_group_id],
            },
        )
        arn = self.application.attr_arn
        starter = iam.Role(
            self,
            "Starter",
            role_name=f"{environment.prefix}-schedule",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
            ),
            inline_policies={
                "start": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(sid="Start", actions=["emr-serverless:StartJobRun"], resources=[arn]),
                        iam.PolicyStatement(
                            sid="AsItself",
                            actions=["iam:PassRole"],
                            resources=[role.role_arn],
                            conditions={"StringEquals": {"iam:PassedToService": "emr-serverless.amazonaws.com"}},
                        ),
                        iam.PolicyStatement(sid="Undelivered", actions=["sqs:SendMessage"], resources=[dead.queue_arn]),
                        iam.PolicyStatement(
                            sid="UndeliveredKey",
                            actions=["kms:GenerateDataKey", "kms:Decrypt"],
                            resources=[key.key_arn],
                            conditions={"StringEquals": {"kms:ViaService": f"sqs.{self.region}.amazonaws.com"}},
                        ),
                    ]
                )
            },
        )
        variables = {
            **settings,
            "STILLPOINT_HOME": "/tmp/stillpoint",
            "PYSPARK_PYTHON": PYTHON,
            "PYSPARK_DRIVER_PYTHON": PYTHON,
        }
        submit = " ".join(
            [
                *(f"--conf spark.emr-serverless.driverEnv.{name}={value}" for name, value in variables.items()),
                "--conf spark.executor.instances=0 --conf spark.dynamicAllocation.enabled=false",
                "--conf spark.driver.cores=4 --conf spark.driver.memory=14g",
            ]
        )
        for name, (words, at) in JOBS.items():
            scheduler.CfnSchedule(
                self,
                name.title(),
                name=f"{environment.prefix}-{name}",
                description=f"`stillpoint {' '.join(words)}`",
                schedule_expression=at,
                schedule_expression_timezone="UTC",
                flexible_time_window={"mode": "OFF"},
                kms_key_arn=key.key_arn,
                target={
                    "arn": "arn:aws:scheduler:::aws-sdk:emrserverless:startJobRun",
                    "roleArn": starter.role_arn,
                    "retryPolicy": {"maximumRetryAttempts": 3, "maximumEventAgeInSeconds": 3_600},
                    "deadLetterConfig": {"arn": dead.queue_arn},
                    "input": self.to_json_string(
                        {
                            "ApplicationId": self.application.attr_application_id,
                            "ClientToken": f"{name}-<aws.scheduler.execution-id>",
                            "ExecutionRoleArn": role.role_arn,
                            "ExecutionTimeoutMinutes": MINUTES,
                            "Name": name,
                            "JobDriver": {
                                "SparkSubmit": {
                                    "EntryPoint": "local:///app/job.py",
                                    "EntryPointArguments": words,
                                    "SparkSubmitParameters": submit,
                                }
                            },
                            "RetryPolicy": {"MaxAttempts": 3},
                            "ConfigurationOverrides": {
                                "MonitoringConfiguration": {
                                    "CloudWatchLoggingConfiguration": {
                                        "Enabled": True,
                                        "LogGroupName": group.log_group_name,
                                        "EncryptionKeyArn": key.key_arn,
                                    }
                                }
                            },
                        }
                    ),
                },
            )
        failed = events.Rule(
            self,
            "Failed",
            rule_name=f"{environment.prefix}-job-failed",
            description="A job of the daily work failed or was cancelled",
            event_pattern=events.EventPattern(
                source=["aws.emr-serverless"],
                detail_type=["EMR Serverless Job Run State Change"],
                detail={"applicationId": [self.application.attr_application_id], "state": ["FAILED", "CANCELLED"]},
            ),
        )
        failed.add_target(targets.SnsTopic(topic))
