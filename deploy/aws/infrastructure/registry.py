"""The registry: a repository per image. A tag is never moved, and an image that has no lock is refused."""

from pathlib import Path

from aws_cdk import CfnOutput, Duration
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infrastructure.base import ConcernStack
from infrastructure.environment import Environment
from infrastructure.refused import InfrastructureRefused

ROOT = Path(__file__).parents[3]
IMAGES = ("service", "stream", "daily", "lambda", "model-server", "training")
"""The folders of `deploy/` that hold an image's recipe and its lock. The worker runs in the service's image, the console in that of training."""
KEPT = 30


def locked(image: str, root: Path = ROOT) -> str:
    """Return the image's name.

    Raises:
        InfrastructureRefused: its recipe is missing, or it has no lock with hashes.
    """
    folder = root / "deploy" / image
    lock = folder / "requirements.lock"
    if not (folder / "Dockerfile").is_file():
        raise InfrastructureRefused(
            f"image {image}: {folder / 'Dockerfile'} is missing; expected one of {', '.join(IMAGES)}"
        )
    if not lock.is_file() or "--hash=sha256:" not in lock.read_text(encoding="utf-8"):
        raise InfrastructureRefused(
            f"image {image}: {lock} is missing or holds no hashes, so two builds would differ; `make lock` writes it"
        )
    return image


class Registry(ConcernStack):
    """ECR, encrypted, scanned at each push."""

    def __init__(self, scope: Construct, environment: Environment, key: kms.IKey) -> None:
        super().__init__(scope, "registry", environment, "images")
        self.repositories = {
            image: ecr.Repository(
                self,
                image.title().replace("-", ""),
                repository_name=f"{environment.prefix}/{locked(image)}",
                image_scan_on_push=True,
                image_tag_mutability=ecr.TagMutability.IMMUTABLE,
                encryption=ecr.RepositoryEncryption.KMS,
                encryption_key=key,
                lifecycle_rules=[
                    ecr.LifecycleRule(
                        rule_priority=1, tag_status=ecr.TagStatus.UNTAGGED, max_image_age=Duration.days(7)
                    ),
                    ecr.LifecycleRule(rule_priority=2, max_image_count=KEPT),
                ],
                empty_on_delete=not environment.keep_data,
                removal_policy=self.removal,
            )
            for image in IMAGES
        }
        self.repositories["daily"].add_to_resource_policy(
            iam.PolicyStatement(
                sid="Jobs",
                principals=[iam.ServicePrincipal("emr-serverless.amazonaws.com")],
                actions=["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        for image, repository in self.repositories.items():
            name = f"Repository{image.title().replace('-', '')}"
            CfnOutput(self, name, value=repository.repository_uri, description=f"where the image {image} is pushed")
        self.setting("sagemaker_role", f"arn:aws:iam::{environment.account}:role/{environment.prefix}-sagemaker")
        self.setting("sagemaker_image", f"{self.repositories['model-server'].repository_uri}:{environment.images}")
