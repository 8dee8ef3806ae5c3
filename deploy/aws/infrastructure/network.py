"""The network: private subnets for every process and cache, one way out, and the store's traffic kept inside."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from infrastructure.base import ConcernStack
from infrastructure.environment import Environment

RANGE = "10.40.0.0/16"
REDIS_PORT = 6379
SERVICE_PORT = 8090
CONSOLE_PORT = 8095
FILE_PORT = 2049
DAYS = {days: getattr(logs.RetentionDays, name) for days, name in {
    1: "ONE_DAY", 3: "THREE_DAYS", 5: "FIVE_DAYS", 7: "ONE_WEEK", 14: "TWO_WEEKS", 30: "ONE_MONTH", 60: "TWO_MONTHS",
    90: "THREE_MONTHS", 180: "SIX_MONTHS", 365: "ONE_YEAR"}.items()}  # fmt: skip


class Network(ConcernStack):
    """A VPC whose processes have no address of the internet; each kind has a security group that names whom it may reach."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey) -> None:
        super().__init__(scope, "network", environment, "the network")
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            availability_zones=[f"{environment.region}{letter}" for letter in "abcdef"[: environment.zones]],
            ip_addresses=ec2.IpAddresses.cidr(RANGE),
            nat_gateways=environment.nat_gateways,
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24, map_public_ip_on_launch=False
                ),
                ec2.SubnetConfiguration(name="private", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=20),
            ],
            gateway_endpoints={"S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)},
        )
        flows = logs.LogGroup(
            self, "Flows", encryption_key=key, retention=DAYS[environment.log_days], removal_policy=self.removal
        )
        role = iam.Role(self, "FlowsRole", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        self.vpc.add_flow_log(
            "Rejected",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(flows, role),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
        self.processes = self._group("Processes", "service, worker, stream, console, function and daily job")
        self.caches = self._group("Caches", "the Redis servers")
        self.files = self._group("Files", "the file system of the stream")
        self.entrance = self._group("Entrance", "the load balancer")
        for group in (self.processes, self.entrance):
            group.add_egress_rule(ec2.Peer.ipv4(RANGE), ec2.Port.tcp_range(1, 65_535), "inside")
        self.processes.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS's own addresses, by TLS")
        self.caches.add_ingress_rule(self.processes, ec2.Port.tcp(REDIS_PORT), "Redis, from our processes alone")
        self.files.add_ingress_rule(self.processes, ec2.Port.tcp(FILE_PORT), "the stream's checkpoint")
        self.entrance.add_ingress_rule(ec2.Peer.ipv4(RANGE), ec2.Port.tcp(443), "callers inside the network, by TLS")
        for port in (SERVICE_PORT, CONSOLE_PORT):
            self.processes.add_ingress_rule(self.entrance, ec2.Port.tcp(port), "from the load balancer")

    def _group(self, name: str, of_what: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(self, name, vpc=self.vpc, description=f"Of {of_what}", allow_all_outbound=False)
