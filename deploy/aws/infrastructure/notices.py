"""Whom failures and alarms are told, and the workspace that evaluates our rules."""

from aws_cdk import Duration
from aws_cdk import aws_aps as aps
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infrastructure.base import ConcernStack, waive
from infrastructure.environment import Environment
from infrastructure.network import DAYS
from infrastructure.refused import InfrastructureRefused
from infrastructure.rules import of_cloudwatch, of_the_workspace

ALERTMANAGER = """alertmanager_config: |
  route:
    receiver: topic
    group_by: [alertname]
    group_wait: 30s
    repeat_interval: 4h
  receivers:
    - name: topic
      sns_configs:
        - topic_arn: {topic}
          sigv4: {{region: {region}}}
          send_resolved: true
          subject: '{{{{ .CommonLabels.alertname }}}} ({{{{ .CommonLabels.severity }}}})'
          message: '{{{{ range .Alerts }}}}{{{{ .Annotations.summary }}}} {{{{ .Annotations.action }}}} {{{{ end }}}}'
"""


class Notices(ConcernStack):
    """The topic. Everything that fails ends here: jobs, alarms, undelivered schedules."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey) -> None:
        super().__init__(scope, "notices", environment, "whom failures are told")
        self.topic = sns.Topic(
            self, "Failures", topic_name=f"{environment.prefix}-failures", master_key=key, enforce_ssl=True
        )
        self.topic.add_subscription(subscriptions.EmailSubscription(environment.notify))
        self.undelivered = sqs.Queue(
            self,
            "Undelivered",
            queue_name=f"{environment.prefix}-undelivered",
            retention_period=Duration.days(14),
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=key,
            enforce_ssl=True,
        )
        waive(self.undelivered, "AwsSolutions-SQS3", "it holds what could not be delivered; nothing comes after it")
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsAndRules",
                principals=[
                    iam.ServicePrincipal(f"{service}.amazonaws.com") for service in ("cloudwatch", "events", "aps")
                ],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )


class Metrics(ConcernStack):
    """Amazon's Prometheus with our rules, which tell the topic."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey, topic: sns.Topic) -> None:
        super().__init__(scope, "metrics", environment, "metrics and their rules")
        group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/vendedlogs/{environment.prefix}/rules",
            encryption_key=key,
            retention=DAYS[environment.log_days],
            removal_policy=self.removal,
        )
        self.workspace = aps.CfnWorkspace(
            self,
            "Metrics",
            alias=environment.prefix,
            kms_key_arn=key.key_arn,
            alert_manager_definition=ALERTMANAGER.format(topic=topic.topic_arn, region=self.region),
            logging_configuration={"logGroupArn": group.log_group_arn},
        )
        aps.CfnRuleGroupsNamespace(
            self, "Rules", name="stillpoint", workspace=self.workspace.attr_arn, data=of_the_workspace()
        )
        self.write_address = f"{self.workspace.attr_prometheus_endpoint}api/v1/remote_write"


class Alarms(ConcernStack):
    """The alarms of CloudWatch, from the same rules, and a dashboard of what AWS itself measures."""

    def __init__(
        self,
        scope: Construct,
        environment: Environment,
        topic: sns.Topic,
        *,
        queues: dict[str, sqs.Queue],
        stream: str,
        caches: list[str],
    ) -> None:
        super().__init__(scope, "alarms", environment, "alarms and a dashboard")
        for rule in of_cloudwatch():
            if rule.queue not in queues:
                raise InfrastructureRefused(
                    f"rule {rule.name} watches the queue {rule.queue}, which no stack makes; there are {', '.join(queues)}"
                )
            alarm = cloudwatch.Alarm(
                self,
                rule.name,
                alarm_name=f"{environment.prefix}-{rule.name}",
                alarm_description=f"{rule.summary} {rule.action}",
                metric=cloudwatch.Metric(
                    namespace="AWS/SQS",
                    metric_name=rule.metric,
                    dimensions_map={"QueueName": queues[rule.queue].queue_name},
                    statistic=rule.statistic,
                    period=Duration.minutes(1),
                ),
                threshold=rule.threshold,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
                evaluation_periods=rule.minutes,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            )
            alarm.add_alarm_action(actions.SnsAction(topic))
            alarm.add_ok_action(actions.SnsAction(topic))
        self._dashboard(queues, stream, caches)

    def _dashboard(self, queues: dict[str, sqs.Queue], stream: str, caches: list[str]) -> None:
        def drawn(
            title: str, namespace: str, metric: str, dimension: str, names: list[str], statistic: str
        ) -> cloudwatch.GraphWidget:
            return cloudwatch.GraphWidget(
                title=title,
                width=8,
                left=[
                    cloudwatch.Metric(
                        namespace=namespace,
                        metric_name=metric,
                        dimensions_map={dimension: name},
                        statistic=statistic,
                        label=name,
                        period=Duration.minutes(1),
                    )
                    for name in names
                ],
            )

        names = [queue.queue_name for queue in queues.values()]
        nodes = [f"{one}-001" for one in caches]
        widgets: list[cloudwatch.IWidget] = [
            drawn("Events: how far behind", "AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "StreamName", [stream], "Maximum"),
            drawn("Events: records a minute", "AWS/Kinesis", "IncomingRecords", "StreamName", [stream], "Sum"),
            drawn("Events: refused writes", "AWS/Kinesis", "WriteProvisionedThroughputExceeded", "StreamName", [stream], "Sum"),
            drawn("Queues: waiting", "AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", names, "Maximum"),
            drawn("Queues: age of the oldest", "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", names, "Maximum"),
        ]  # fmt: skip
        if nodes:
            widgets += [
                drawn("Redis: memory used", "AWS/ElastiCache", "DatabaseMemoryUsagePercentage", "CacheClusterId", nodes, "Maximum"),
                drawn("Redis: evictions (must be 0)", "AWS/ElastiCache", "Evictions", "CacheClusterId", nodes, "Sum"),
                drawn("Redis: processor", "AWS/ElastiCache", "EngineCPUUtilization", "CacheClusterId", nodes, "Maximum"),
            ]  # fmt: skip
        cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=self.environment_of_ours.prefix,
            widgets=[widgets[at : at + 3] for at in range(0, len(widgets), 3)],
        )
