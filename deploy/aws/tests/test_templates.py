"""What the templates promise: encryption at rest and in transit, small defaults, dead letters, one stream, alarms from the rules."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from conftest import HERE, Templates
from infrastructure.rules import RULES, of_cloudwatch, of_the_workspace
from outputs import settings_from

Of = Callable[[str], Templates]
CONCERNS = {
    "keys", "network", "storage", "events", "caches", "files", "registry", "roles", "notices", "metrics", "alarms", "services", "daily",
}  # fmt: skip


def resources(templates: Templates, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each resource of a type, by the stack that it stands in, with its properties."""
    for concern, template in templates.items():
        for one in template["Resources"].values():
            if one["Type"] == kind:
                yield concern, one.get("Properties", {})


def test_there_is_a_stack_per_concern(templates: Of) -> None:
    assert set(templates("example")) == CONCERNS
    assert set(templates("production")) == CONCERNS | {"function", "models"}


@pytest.mark.parametrize("environment", ["example", "production"])
def test_everything_at_rest_is_encrypted_with_a_key_of_ours(templates: Of, environment: str) -> None:
    made = templates(environment)
    key_of = {
        "AWS::Kinesis::Stream": lambda one: one["StreamEncryption"]["KeyId"],
        "AWS::SQS::Queue": lambda one: one["KmsMasterKeyId"],
        "AWS::ElastiCache::ReplicationGroup": lambda one: one["AtRestEncryptionEnabled"] and one["KmsKeyId"],
        "AWS::EFS::FileSystem": lambda one: one["Encrypted"] and one["KmsKeyId"],
        "AWS::SecretsManager::Secret": lambda one: one["KmsKeyId"],
        "AWS::Logs::LogGroup": lambda one: one["KmsKeyId"],
        "AWS::ECR::Repository": lambda one: one["EncryptionConfiguration"]["KmsKey"],
        "AWS::SNS::Topic": lambda one: one["KmsMasterKeyId"],
        "AWS::APS::Workspace": lambda one: one["KmsKeyArn"],
        "AWS::Scheduler::Schedule": lambda one: one["KmsKeyArn"],
        "AWS::SageMaker::EndpointConfig": lambda one: one["KmsKeyId"],
        "AWS::Lambda::Function": lambda one: one["KmsKeyArn"],
    }
    seen = set()
    for kind, key in key_of.items():
        for concern, properties in resources(made, kind):
            assert key(properties), f"{concern}: a {kind} has no key"
            seen.add(kind)
    assert seen >= set(key_of) - {"AWS::SageMaker::EndpointConfig", "AWS::Lambda::Function"}
    lake = next(one for _, one in resources(made, "AWS::S3::Bucket") if "-lake-" in str(one["BucketName"]))
    (rule,) = lake["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    for _, key_properties in resources(made, "AWS::KMS::Key"):
        assert key_properties["EnableKeyRotation"] is True


def test_everything_in_transit_is_encrypted(templates: Of) -> None:
    made = templates("production")
    for _, redis in resources(made, "AWS::ElastiCache::ReplicationGroup"):
        assert (redis["TransitEncryptionEnabled"], redis["TransitEncryptionMode"]) == (True, "required")
    for _, listener in resources(made, "AWS::ElasticLoadBalancingV2::Listener"):
        assert listener["Protocol"] == "HTTPS"
        assert listener["SslPolicy"].startswith("ELBSecurityPolicy-TLS13")
    refusing = ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy")
    protected = 0
    for kind in refusing:
        for concern, policy in resources(made, kind):
            denied = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
            assert {"Bool": {"aws:SecureTransport": "false"}} in [one.get("Condition") for one in denied], (
                concern,
                kind,
            )
            protected += 1
    assert protected >= len(list(resources(made, "AWS::SQS::Queue"))) + 3
    volumes = [v for _, task in resources(made, "AWS::ECS::TaskDefinition") for v in task.get("Volumes", [])]
    mounted = [v["EFSVolumeConfiguration"] for v in volumes if "EFSVolumeConfiguration" in v]
    assert [one["TransitEncryption"] for one in mounted] == ["ENABLED"]
    settings = next(
        one for _, one in resources(made, "AWS::SecretsManager::Secret") if str(one.get("Name")).endswith("/settings")
    )
    text = json.dumps(settings["SecretString"])
    assert text.count("ssl=true") == 5


def test_nothing_is_open_to_the_internet(templates: Of) -> None:
    made = templates("production")
    for _, group in resources(made, "AWS::EC2::SecurityGroup"):
        for rule in group.get("SecurityGroupIngress", []):
            assert rule.get("CidrIp") != "0.0.0.0/0"
        for rule in group.get("SecurityGroupEgress", []):
            if rule.get("CidrIp") == "0.0.0.0/0":
                assert (rule["FromPort"], rule["ToPort"]) == (443, 443)
    for _, balancer in resources(made, "AWS::ElasticLoadBalancingV2::LoadBalancer"):
        assert balancer["Scheme"] == "internal"
    for _, service in resources(made, "AWS::ECS::Service"):
        assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
    for _, bucket in resources(made, "AWS::S3::Bucket"):
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


def test_redis_never_evicts(templates: Of) -> None:
    ((_, parameters),) = resources(templates("example"), "AWS::ElastiCache::ParameterGroup")
    assert parameters["Properties"] == {"maxmemory-policy": "noeviction"}
    groups = [one for _, one in resources(templates("example"), "AWS::ElastiCache::ReplicationGroup")]
    assert sorted(one["ReplicationGroupId"].rpartition("-")[2] for one in groups) == [
        "blue",
        "green",
        "serving",
        "state",
    ]


def test_the_stream_is_never_two_and_keeps_its_checkpoint(templates: Of) -> None:
    made = templates("production")
    stream = next(one for _, one in resources(made, "AWS::ECS::Service") if one["ServiceName"] == "stream")
    assert stream["DesiredCount"] == 1
    assert stream["DeploymentConfiguration"]["MaximumPercent"] == 100
    assert stream["DeploymentConfiguration"]["MinimumHealthyPercent"] == 0
    task = next(one for _, one in resources(made, "AWS::ECS::TaskDefinition") if one["Family"].endswith("-stream"))
    container = next(one for one in task["ContainerDefinitions"] if one["Name"] == "stream")
    home = next(one["Value"] for one in container["Environment"] if one["Name"] == "STILLPOINT_HOME")
    assert {"ContainerPath": home, "ReadOnly": False, "SourceVolume": "home"} in container["MountPoints"]


def test_processes_run_without_root_on_a_file_system_that_they_cannot_write(templates: Of) -> None:
    for _, task in resources(templates("production"), "AWS::ECS::TaskDefinition"):
        for container in task["ContainerDefinitions"]:
            assert container["ReadonlyRootFilesystem"] is True
            assert container["Name"] == "collector" or container["User"] == "10001"
            plain = json.dumps(container.get("Environment", []))
            assert "password" not in plain.lower()
            assert "resolve:secretsmanager" not in plain


def test_the_queue_is_worked_off_by_workers_or_by_the_function(templates: Of) -> None:
    def services(environment: str) -> set[str]:
        return {one["ServiceName"] for _, one in resources(templates(environment), "AWS::ECS::Service")}

    assert services("example") == {"service", "worker", "console", "stream"}
    assert services("production") == {"service", "console", "stream"}
    ((_, mapping),) = resources(templates("production"), "AWS::Lambda::EventSourceMapping")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    ((_, function),) = resources(templates("production"), "AWS::Lambda::Function")
    assert (function["PackageType"], function["Architectures"]) == ("Image", ["arm64"])
    targets = [
        one["TargetTrackingScalingPolicyConfiguration"]
        for _, one in resources(templates("example"), "AWS::ApplicationAutoScaling::ScalingPolicy")
    ]
    depth = [one for one in targets if "ApproximateNumberOfMessagesVisible" in json.dumps(one)]
    assert len(depth) == 1


def test_queues_are_as_the_embedded_stack_makes_them(templates: Of) -> None:
    provision = (HERE.parents[1] / "stillpoint" / "local" / "provision.py").read_text()

    def constant(name: str) -> int:
        return eval(re.search(rf"^{name} = ([\d_ *]+)$", provision, re.M)[1])  # type: ignore[index]

    queues = {
        one["QueueName"].partition("-example-")[2]: one for _, one in resources(templates("example"), "AWS::SQS::Queue")
    }
    predictions = queues["predictions"]
    assert predictions["VisibilityTimeout"] == constant("FUNCTION_TIMEOUTS") * 30
    assert predictions["MessageRetentionPeriod"] == constant("RETENTION_SECONDS")
    assert predictions["RedrivePolicy"]["maxReceiveCount"] == constant("MAX_RECEIVES")
    assert queues["predictions-dead"]["MessageRetentionPeriod"] == constant("DEAD_RETENTION_SECONDS")
    assert queues["pushes"]["VisibilityTimeout"] == constant("VISIBILITY_SECONDS")
    assert queues["served"]["MessageRetentionPeriod"] == constant("DEAD_RETENTION_SECONDS")
    letters = {name for name in queues if name.endswith("-dead")} | {"undelivered"}
    assert {name for name, one in queues.items() if "RedrivePolicy" not in one} == letters


def test_the_daily_work_is_scheduled_and_its_failure_told(templates: Of) -> None:
    made = templates("example")
    schedules = {one["Name"].rpartition("-")[2]: one for _, one in resources(made, "AWS::Scheduler::Schedule")}
    assert set(schedules) == {"daily", "compact", "vacuum"}
    for one in schedules.values():
        assert one["Target"]["DeadLetterConfig"]
        assert one["Target"]["Arn"].endswith("emrserverless:startJobRun")
    rule = next(one for _, one in resources(made, "AWS::Events::Rule") if "emr-serverless" in json.dumps(one))
    assert rule["EventPattern"]["detail"]["state"] == ["FAILED", "CANCELLED"]
    assert "Failures" in json.dumps(rule["Targets"])


def test_every_rule_of_prometheus_is_an_alarm_on_aws_and_nothing_else_is(templates: Of) -> None:
    written = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    in_workspace = [rule for group in yaml.safe_load(of_the_workspace())["groups"] for rule in group["rules"]]
    in_cloudwatch = list(of_cloudwatch())
    names = {rule["alert"] for rule in written}
    assert names == {rule["alert"] for rule in in_workspace} | {rule.name for rule in in_cloudwatch}
    assert len(written) == len(in_workspace) + len(in_cloudwatch)
    assert all(rule in written for rule in in_workspace)
    made = templates("example")
    ((_, namespace),) = resources(made, "AWS::APS::RuleGroupsNamespace")
    assert yaml.safe_load(namespace["Data"]) == yaml.safe_load(of_the_workspace())
    alarms = [one for _, one in resources({"alarms": made["alarms"]}, "AWS::CloudWatch::Alarm")]
    assert {one["AlarmName"].rpartition("-")[2] for one in alarms} == {rule.name for rule in in_cloudwatch}
    (dead,) = alarms
    assert (dead["Threshold"], dead["EvaluationPeriods"], dead["Period"]) == (0, 5, 60)
    assert dead["AlarmActions"]
    assert len(list(resources(made, "AWS::CloudWatch::Dashboard"))) == 1


def test_data_outlive_their_stacks_where_the_environment_says_so(templates: Of) -> None:
    kinds = {"AWS::S3::Bucket", "AWS::Kinesis::Stream", "AWS::KMS::Key", "AWS::EFS::FileSystem"}
    for environment, policy in (("example", "Delete"), ("production", "Retain")):
        found = {
            one["DeletionPolicy"]
            for template in templates(environment).values()
            for one in template["Resources"].values()
            if one["Type"] in kinds
        }
        assert found == {policy}


def test_the_outputs_are_settings_that_exist(templates: Of) -> None:
    outputs = {
        name: json.dumps(output["Value"])
        for template in templates("example").values()
        for name, output in template.get("Outputs", {}).items()
    }
    settings = settings_from(outputs)
    known = (HERE.parents[1] / "docs" / "settings.md").read_text()
    assert [name for name in settings if f"`{name}`" not in known] == []
    assert len([name for name in outputs if name.startswith("Setting")]) == len(settings)


def test_no_finding_is_waived_without_a_reason() -> None:
    waived = 0
    for path in sorted((HERE / "infrastructure").glob("*.py")):
        for found in re.finditer(
            r"\bwaive(?:_for_checkov)?\(\s*[^,]+,\s*f?\"[^\"]+\",\s*(.*?)\)", path.read_text(), re.S
        ):
            waived += 1
            assert len(found[1].strip()) > 5, f"{path.name}: {found[0]}"
    assert waived > 8
