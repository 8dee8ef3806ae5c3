"""The Redis servers: both colours, the stream's states, and what is served. With TLS, a user of their own, and no eviction."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticache as elasticache
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secrets
from constructs import Construct

from infrastructure.base import ConcernStack, waive
from infrastructure.environment import Environment
from infrastructure.network import REDIS_PORT

NO_CHARACTERS = "".join(chr(code) for code in range(33, 127) if not chr(code).isalnum())
"""What a generated word must not hold: it becomes part of JSON, and of connection strings."""
USES = ("green", "blue", "serving", "state")
ENGINE, FAMILY, VERSION = "valkey", "valkey8", "8.0"
COMMANDS = "on ~* &* -@all +@read +@write +@connection +@scripting +@transaction +@pubsub +info +wait +cluster|slots +cluster|info"
"""What our user may do: reading, writing, scripts, and what `docs/redis.md` names beside them."""


class Caches(ConcernStack):
    """Four replication groups, or one Redis that is there already. `connections` are the settings that reach them."""

    def __init__(
        self,
        scope: Construct,
        environment: Environment,
        key: kms.IKey,
        *,
        vpc: ec2.IVpc | None = None,
        group: ec2.ISecurityGroup | None = None,
    ) -> None:
        super().__init__(scope, "caches", environment, "Redis")
        self._key = key
        self.groups: dict[str, elasticache.CfnReplicationGroup] = {}
        if environment.redis or vpc is None or group is None:
            self.connections = dict.fromkeys((*USES, "sandbox"), environment.redis)
        else:
            self.connections = self._made(vpc, group)
        self.passphrase = secrets.Secret(
            self,
            "ErasureKey",
            description="Key of the tombstones of erased users; keep it as long as the data",
            encryption_key=key,
            generate_secret_string=secrets.SecretStringGenerator(password_length=64, exclude_characters=NO_CHARACTERS),
            removal_policy=self.removal,
        )
        waive(
            self.passphrase,
            "AwsSolutions-SMG4",
            "tombstones of another key are refused: whoever rotated it would lose every erasure (docs/adr/0060)",
        )
        self.tokens = secrets.CfnSecret(
            self,
            "Tokens",
            name=f"{environment.prefix}/tokens",
            description="The service's hashed tokens, as `python -m inference.tokens` prints them; `up.sh` writes the first",
            kms_key_id=key.key_arn,
            secret_string="[]",
        )
        waive(
            self.tokens,
            "AwsSolutions-SMG4",
            "a token is revoked by taking its hash out; nothing here is a secret by itself",
        )
        settings = {f"STILLPOINT_REDIS_{use.upper()}": text for use, text in self.connections.items()}
        settings["STILLPOINT_ERASURE_KEY"] = self.passphrase.secret_value.unsafe_unwrap()
        self.settings_secret = secrets.CfnSecret(
            self,
            "Settings",
            name=f"{environment.prefix}/settings",
            description="The settings that are secret, one JSON object; every process reads it when it starts",
            kms_key_id=key.key_arn,
            secret_string=self.to_json_string(settings),
        )
        waive(
            self.settings_secret,
            "AwsSolutions-SMG4",
            "it is put together from the passwords, which rotate by deploying with a new user beside the old one (docs/aws.md)",
        )
        self.setting("secret_id", self.settings_secret.ref)

    def _made(self, vpc: ec2.IVpc, group: ec2.ISecurityGroup) -> dict[str, str]:
        environment = self.environment_of_ours
        password = secrets.Secret(
            self,
            "Password",
            description="Of Stillpoint's user at Redis",
            encryption_key=self._key,
            generate_secret_string=secrets.SecretStringGenerator(password_length=48, exclude_characters=NO_CHARACTERS),
        )
        waive(
            password,
            "AwsSolutions-SMG4",
            "ElastiCache takes a new password beside the old one only by hand; docs/aws.md says how",
        )
        word = password.secret_value.unsafe_unwrap()
        user = elasticache.CfnUser(
            self,
            "User",
            user_id=f"{environment.prefix}-app",
            user_name="stillpoint",
            engine=ENGINE,
            access_string=COMMANDS,
            authentication_mode={"Type": "password", "Passwords": [word]},
        )
        users = elasticache.CfnUserGroup(
            self, "Users", user_group_id=f"{environment.prefix}-users", engine=ENGINE, user_ids=[user.user_id]
        )
        users.add_resource_dependency(user)
        subnets = elasticache.CfnSubnetGroup(
            self,
            "Subnets",
            description="Where no address of the internet leads",
            subnet_ids=[one.subnet_id for one in vpc.private_subnets],
        )
        parameters = elasticache.CfnParameterGroup(
            self,
            "NoEviction",
            cache_parameter_group_family=FAMILY,
            description="A full Redis refuses writes: what lies there is never dropped (docs/redis.md)",
            properties={"maxmemory-policy": "noeviction"},
        )
        found = {}
        for use in USES:
            made = elasticache.CfnReplicationGroup(
                self,
                use.title(),
                replication_group_id=f"{environment.prefix}-{use}",
                replication_group_description=f"Stillpoint ({environment.name}): {use}",
                engine=ENGINE,
                engine_version=VERSION,
                cache_node_type=environment.cache_node,
                num_node_groups=1,
                replicas_per_node_group=environment.cache_copies,
                automatic_failover_enabled=environment.cache_copies > 0,
                multi_az_enabled=environment.cache_copies > 0,
                at_rest_encryption_enabled=True,
                kms_key_id=self._key.key_arn,
                transit_encryption_enabled=True,
                transit_encryption_mode="required",
                user_group_ids=[users.user_group_id],
                cache_parameter_group_name=parameters.ref,
                cache_subnet_group_name=subnets.ref,
                security_group_ids=[group.security_group_id],
                snapshot_retention_limit=7 if use in ("state", "serving") else 1,
                auto_minor_version_upgrade=True,
                port=REDIS_PORT,
            )
            made.add_resource_dependency(users)
            waive(
                made,
                "AwsSolutions-AEC5",
                "the port is Redis's own; reaching it needs the security group, TLS and the password",
            )
            waive(made, "AwsSolutions-AEC6", "a user with a password and named commands stands in AUTH's place (RBAC)")
            self.groups[use] = made
            address = made.attr_primary_end_point_address
            found[use] = f"{address}:{REDIS_PORT},ssl=true,username=stillpoint,password={word}"
        return found | {"sandbox": f"{found['blue']},db=1"}
