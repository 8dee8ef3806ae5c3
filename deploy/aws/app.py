"""Puts the stacks together: `cdk synth` runs this program, which writes a template per stack.

`--context environment=FILE` names the environment, a TOML file as `environments/example.toml`. A fault of the environment, a role that allows too much or an image without a lock ends it with one sentence.
"""

import sys
from pathlib import Path

import aws_cdk
from cdk_nag import AwsSolutionsChecks

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from infrastructure.assembly import assemble  # noqa: E402
from infrastructure.environment import load  # noqa: E402
from infrastructure.refused import InfrastructureRefused  # noqa: E402

FLAGS = {
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/aws-efs:denyAnonymousAccess": True,
    "@aws-cdk/aws-iam:minimizePolicies": False,
}
"""How CDK writes templates; the rest is as it is by default."""


def main() -> int:
    app = aws_cdk.App(context=FLAGS)
    named = app.node.try_get_context("environment") or HERE / "environments" / "example.toml"
    try:
        assemble(app, load(Path(named)))
    except InfrastructureRefused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 1
    aws_cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
