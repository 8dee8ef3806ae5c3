"""What is refused before a template is written, and with which sentence."""

from pathlib import Path

import pytest
from conftest import HERE, synthesize
from infrastructure.environment import Environment, load
from infrastructure.permissions import PROCESSES, Permission, refuse_wildcards
from infrastructure.refused import InfrastructureRefused
from infrastructure.registry import locked
from infrastructure.rules import of_cloudwatch
from outputs import settings_from

GOOD = (HERE / "environments" / "example.toml").read_text()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('account = "111122223333"\n', "", "account is missing: add `account = "),
        ('account = "111122223333"', 'account = "12"', "account is '12'; expected twelve digits"),
        ('region = "us-east-1"', 'region = "Virginia"', "region is 'Virginia'"),
        ('notify = "you@example.com"', 'notify = "you"', "notify is 'you'; expected the e-mail address"),
        ('certificate = "arn:aws', 'certificate = "', "expected the ARN of a certificate in ACM"),
        ('images = "0.1.0"', 'images = "latest"', "`latest` names nothing"),
        ('images = "0.1.0"', 'images = "0.1.0"\nzones = 1', "zones is 1; expected at least 2"),
        ('images = "0.1.0"', 'images = "0.1.0"\nzone = 3', "unknown field `zone`"),
        ('images = "0.1.0"', 'images = "0.1.0"\nevent_shards = "many"', "Expected `int`, got `str` - at `$.event_shards`"),
        ('images = "0.1.0"', 'images = "0.1.0"\nworker_tasks = { least = 5, most = 2 }', "worker_tasks scales from 5 to 2"),
        ('name = "example"', "name = ", "Invalid value"),
    ],
)  # fmt: skip
def test_an_environment_is_refused_with_the_sentence_that_helps(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    file = tmp_path / "mine.toml"
    assert before in GOOD
    file.write_text(GOOD.replace(before, after))
    with pytest.raises(InfrastructureRefused) as refused:
        load(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)


def test_every_fault_of_an_environment_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text('name = "Mine"\n')
    with pytest.raises(InfrastructureRefused) as refused:
        load(file)
    for part in ("account is missing", "region is", "name is", "notify is", "certificate is", "images is"):
        assert part in str(refused.value)


def test_synthesis_ends_with_one_sentence_and_no_template(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace('account = "111122223333"\n', ""))
    done = synthesize(file, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {file} is refused; account is missing")
    assert not list(tmp_path.glob("out/*.template.json"))


def test_an_image_without_its_lock_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "deploy" / "service"
    with pytest.raises(InfrastructureRefused, match=r"image service: .*Dockerfile is missing"):
        locked("service", tmp_path)
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(
        InfrastructureRefused, match=r"requirements.lock is missing or holds no hashes.*`make lock` writes it"
    ):
        locked("service", tmp_path)
    (folder / "requirements.lock").write_text("msgspec==0.20\n")
    with pytest.raises(InfrastructureRefused, match="holds no hashes"):
        locked("service", tmp_path)


@pytest.mark.parametrize(
    ("action", "resource", "said"),
    [
        ("s3:*", "{lake}/*", "the action s3:* has a wildcard"),
        ("*", "*", "the action * has a wildcard"),
        ("s3:Get?bject", "{lake}/*", "has a wildcard"),
        ("s3:GetObject", "*", "s3:GetObject is allowed on every resource"),
        ("s3:GetObject", "arn:aws:s3:::*/lake", "has a wildcard within"),
    ],
)
def test_a_role_with_a_wildcard_is_refused(action: str, resource: str, said: str) -> None:
    with pytest.raises(InfrastructureRefused, match="role worker, permission Sid: ") as refused:
        refuse_wildcards({"worker": (Permission("Sid", "a part", (action,), (resource,)),)})
    assert said in str(refused.value)
    refuse_wildcards(PROCESSES)


def test_a_rule_that_cloudwatch_cannot_say_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "stillpoint.rules.yml"
    file.write_text(
        "groups: [{name: a, rules: [{alert: Odd, expr: 'rate(aws_sqs_number_of_messages_sent_sum[5m]) > 1', "
        "labels: {severity: page}, annotations: {summary: a, action: b}}]}]"
    )
    with pytest.raises(InfrastructureRefused, match="rule Odd: CloudWatch has no alarm for"):
        list(of_cloudwatch(file))


def test_a_stack_that_lacks_an_output_is_named() -> None:
    with pytest.raises(InfrastructureRefused, match=r"the stacks have no output SettingAwsEndpointUrl, .*make deploy"):
        settings_from({"SettingEventStream": "stillpoint-example-events"})


def test_the_defaults_are_small() -> None:
    small = Environment(name="a")
    assert (small.zones, small.nat_gateways, small.event_shards, small.worker_tasks.least) == (2, 1, 1, 1)
    assert small.cache_node.endswith("t4g.small")
