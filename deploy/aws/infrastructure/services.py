"""The processes that stay: service, worker, console and stream, as tasks of ECS on Fargate."""

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as balancing
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secrets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infrastructure.base import ConcernStack, waive
from infrastructure.collector import add_collector
from infrastructure.environment import Environment
from infrastructure.files import USER, Files
from infrastructure.network import CONSOLE_PORT, DAYS, SERVICE_PORT, Network

MESSAGES_PER_TASK = 100
"""Waiting prediction requests that one worker shall have; more, and another is started."""
PROCESSOR_SHARE = 60
METRICS_PORT = 9464
HOME = "/home/stillpoint/data"


class Services(ConcernStack):
    """A cluster with one service per process. The stream is never two: its old task ends before the new one begins."""

    def __init__(
        self,
        scope: Construct,
        environment: Environment,
        key: kms.IKey,
        *,
        network: Network,
        repositories: dict[str, ecr.Repository],
        roles: dict[str, iam.Role],
        settings: dict[str, str],
        predictions: sqs.IQueue,
        metrics_address: str,
        log_bucket: s3.IBucket,
        files: Files,
        tokens: str,
    ) -> None:
        super().__init__(scope, "services", environment, "service, worker, console and stream")
        self._key, self._network, self._settings = key, network, settings
        self._repositories, self._roles, self._metrics_address = repositories, roles, metrics_address
        self.cluster = ecs.Cluster(
            self,
            "Cluster",
            cluster_name=environment.prefix,
            vpc=network.vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
        )
        self._log_bucket, self._files = log_bucket, files
        self._tokens = secrets.Secret.from_secret_attributes(
            self, "Tokens", secret_complete_arn=tokens, encryption_key=kms.Key.from_key_arn(self, "Key", key.key_arn)
        )
        service = self._served("service", ["serve", "--host", "0.0.0.0"], SERVICE_PORT, environment.service_tasks.least)
        scaling = service.auto_scale_task_count(
            min_capacity=environment.service_tasks.least, max_capacity=environment.service_tasks.most
        )
        scaling.scale_on_cpu_utilization("Processor", target_utilization_percent=PROCESSOR_SHARE)
        console = self._served("console", ["console", "--host", "0.0.0.0"], CONSOLE_PORT, 1, image="training")
        self._balanced(service, console)
        if environment.predictor == "worker":
            worker = self._service("worker", ["worker"], count=environment.worker_tasks.least)
            by_depth = worker.auto_scale_task_count(
                min_capacity=environment.worker_tasks.least, max_capacity=environment.worker_tasks.most
            )
            by_depth.scale_to_track_custom_metric(
                "Depth",
                metric=predictions.metric_approximate_number_of_messages_visible(period=Duration.minutes(1)),
                target_value=MESSAGES_PER_TASK,
                scale_in_cooldown=Duration.minutes(5),
                scale_out_cooldown=Duration.minutes(1),
            )
        self._stream()

    def _task(
        self, name: str, command: list[str], *, image: str, cpu: int, memory: int, port: int | None
    ) -> ecs.FargateTaskDefinition:
        environment = self.environment_of_ours
        execution = iam.Role(self, f"{name.title()}Start", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
        task = ecs.FargateTaskDefinition(
            self,
            f"{name.title()}Task",
            family=f"{environment.prefix}-{name}",
            cpu=cpu,
            memory_limit_mib=memory,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.ARM64, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
            task_role=self._roles[name],
            execution_role=execution,
            volumes=[ecs.Volume(name="temporary")],
        )
        waive(
            task,
            "AwsSolutions-ECS2",
            "the variables are names and addresses; secrets are read from Secrets Manager by the process itself",
        )
        waive(
            execution.node.find_child("DefaultPolicy") if execution.node.try_find_child("DefaultPolicy") else execution,
            "AwsSolutions-IAM5[Resource::*]",
            "ecr:GetAuthorizationToken knows no resource",
        )
        group = logs.LogGroup(
            self,
            f"{name.title()}Log",
            log_group_name=f"/{environment.prefix}/{name}",
            encryption_key=self._key,
            retention=DAYS[environment.log_days],
            removal_policy=self.removal,
        )
        container = task.add_container(
            name,
            image=ecs.ContainerImage.from_ecr_repository(self._repositories[image], environment.images),
            command=command,
            user=USER,
            readonly_root_filesystem=True,
            environment=self._settings | {"STILLPOINT_HOME": HOME if name == "stream" else "/tmp/stillpoint"},
            secrets={"HTTP_TOKENS": ecs.Secret.from_secrets_manager(self._tokens)} if port else None,
            logging=ecs.LogDriver.aws_logs(stream_prefix=name, log_group=group),
            port_mappings=[ecs.PortMapping(container_port=port)] if port else None,
            stop_timeout=Duration.seconds(60),
            linux_parameters=ecs.LinuxParameters(self, f"{name.title()}Linux", init_process_enabled=True),
        )
        container.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="temporary", read_only=False))
        if name in ("service", "stream"):
            add_collector(
                task,
                self.region,
                self._metrics_address,
                port=port or METRICS_PORT,
                logging=ecs.LogDriver.aws_logs(stream_prefix="collector", log_group=group),
            )
        return task

    def _service(
        self,
        name: str,
        command: list[str],
        *,
        image: str = "service",
        count: int,
        cpu: int = 1_024,
        memory: int = 2_048,
        port: int | None = None,
        at_least: int = 100,
        at_most: int = 200,
    ) -> ecs.FargateService:
        task = self._task(name, command, image=image, cpu=cpu, memory=memory, port=port)
        return ecs.FargateService(
            self,
            name.title(),
            service_name=name,
            cluster=self.cluster,
            task_definition=task,
            desired_count=count,
            min_healthy_percent=at_least,
            max_healthy_percent=at_most,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            security_groups=[self._network.processes],
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
            platform_version=ecs.FargatePlatformVersion.VERSION1_4,
        )

    def _served(
        self, name: str, command: list[str], port: int, count: int, *, image: str = "service"
    ) -> ecs.FargateService:
        return self._service(name, [*command, "--port", str(port)], image=image, count=count, port=port)

    def _balanced(self, service: ecs.FargateService, console: ecs.FargateService) -> None:
        environment = self.environment_of_ours
        front = balancing.ApplicationLoadBalancer(
            self,
            "Entrance",
            vpc=self._network.vpc,
            internet_facing=False,
            security_group=self._network.entrance,
            drop_invalid_header_fields=True,
            deletion_protection=environment.keep_data,
        )
        front.log_access_logs(self._log_bucket, prefix="entrance")
        for name, target, port, outside, health in (
            ("Service", service, SERVICE_PORT, 443, "/healthz"),
            ("Console", console, CONSOLE_PORT, 8443, "/healthz"),
        ):
            listener = front.add_listener(
                f"{name}Tls",
                port=outside,
                protocol=balancing.ApplicationProtocol.HTTPS,
                certificates=[balancing.ListenerCertificate.from_arn(environment.certificate)],
                ssl_policy=balancing.SslPolicy.TLS13_RES,
                open=False,
            )
            listener.add_targets(
                name,
                port=port,
                protocol=balancing.ApplicationProtocol.HTTP,
                targets=[target],
                deregistration_delay=Duration.seconds(15),
                health_check=balancing.HealthCheck(path=health, interval=Duration.seconds(10)),
            )
        self.front = front

    def _stream(self) -> None:
        """The stream as one task, with the folder of its checkpoint on a file system that outlives every task."""
        environment = self.environment_of_ours
        running = self._service(
            "stream",
            ["stream", "--master", "local[*]", "--metrics-port", str(METRICS_PORT)],
            image="stream",
            count=1,
            cpu=environment.stream_cpu,
            memory=environment.stream_memory,
            at_least=0,
            at_most=100,
        )
        task = running.task_definition
        task.add_volume(
            name="home",
            efs_volume_configuration=ecs.EfsVolumeConfiguration(
                file_system_id=self._files.system.file_system_id,
                transit_encryption="ENABLED",
                authorization_config=ecs.AuthorizationConfig(
                    access_point_id=self._files.point.access_point_id, iam="ENABLED"
                ),
            ),
        )
        assert task.default_container is not None
        task.default_container.add_mount_points(
            ecs.MountPoint(container_path=HOME, source_volume="home", read_only=False)
        )
