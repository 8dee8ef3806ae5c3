"""What every stack has: names with the environment's prefix, tags, protection from deletion, and outputs that become settings."""

from aws_cdk import (
    Acknowledgment,
    CfnOutput,
    CfnResource,
    DefaultStackSynthesizer,
    RemovalPolicy,
    Stack,
    Tags,
    Validations,
)
from aws_cdk import Environment as Place
from constructs import Construct, IConstruct

from infrastructure.environment import Environment


class ConcernStack(Stack):
    """A stack of one concern, named `stillpoint-<environment>-<concern>`."""

    def __init__(self, scope: Construct, concern: str, environment: Environment, description: str) -> None:
        self.environment_of_ours = environment
        self.settings: dict[str, str] = {}
        """Variables of every process, none of them secret."""
        super().__init__(
            scope,
            f"{environment.prefix}-{concern}",
            description=f"Stillpoint ({environment.name}): {description}",
            env=Place(account=environment.account, region=environment.region),
            termination_protection=environment.keep_data,
            synthesizer=DefaultStackSynthesizer(generate_bootstrap_version_rule=environment.endpoint == "aws"),
        )
        Tags.of(self).add("application", "stillpoint")
        Tags.of(self).add("environment", environment.name)

    @property
    def removal(self) -> RemovalPolicy:
        """What becomes of data when the stack is deleted."""
        return RemovalPolicy.RETAIN if self.environment_of_ours.keep_data else RemovalPolicy.DESTROY

    def setting(self, name: str, value: str) -> None:
        """Give a setting of `stillpoint/settings.py` to every process, and as an output: `SettingEventStream`."""
        self.settings[f"STILLPOINT_{name.upper()}"] = value
        CfnOutput(
            self, f"Setting{name.title().replace('_', '')}", value=value, description=f"STILLPOINT_{name.upper()}"
        )


def waive(where: IConstruct, rule: str, reason: str) -> None:
    """Accept a finding of cdk-nag on one construct. The reason is written into the template, beside what it is about."""
    Validations.of(where).acknowledge(Acknowledgment(id=rule, reason=reason))


def waive_for_checkov(where: IConstruct, rule: str, reason: str) -> None:
    """Accept a finding of checkov on one resource; checkov reads it from the template's metadata."""
    resource = where.node.default_child
    assert isinstance(resource, CfnResource), f"{where.node.path} is no resource"
    found = resource.get_metadata("checkov") or {"skip": []}
    resource.add_metadata("checkov", {"skip": [*found["skip"], {"id": rule, "comment": reason}]})
