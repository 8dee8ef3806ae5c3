"""Writes the settings that the stacks give as outputs: `outputs.py ENVIRONMENT.toml > .env`, from the account itself.

Secrets are not among them: `STILLPOINT_SECRET_ID` names the secret that holds those, which each process reads when it starts.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from infrastructure.environment import load
from infrastructure.refused import InfrastructureRefused

NEEDED = (
    "aws_endpoint_url", "sagemaker_endpoint_url", "aws_region", "lake", "registry", "event_stream", "event_shards", "prediction_queue",
    "prediction_dead_letters", "push_queue", "served_queue", "function_seconds", "sagemaker_role", "sagemaker_image", "secret_id",
)  # fmt: skip
"""Settings that a running system takes from its stacks."""


def settings_from(outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the variables, from the outputs of all stacks together.

    Raises:
        InfrastructureRefused: names the outputs that are missing.
    """
    names = {name: f"Setting{name.title().replace('_', '')}" for name in NEEDED}
    missing = [output for output in names.values() if output not in outputs]
    if missing:
        raise InfrastructureRefused(
            f"the stacks have no output {', '.join(missing)}; deploy them all: `make deploy ENVIRONMENT=…`"
        )
    return {f"STILLPOINT_{name.upper()}": outputs[output] for name, output in names.items()}


def main(file: str) -> int:
    environment = load(Path(file))
    command = ["aws", "cloudformation", "describe-stacks", "--region", environment.region, "--output", "json"]
    stacks = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["Stacks"]
    found = {
        output["OutputKey"]: output["OutputValue"]
        for stack in stacks
        if stack["StackName"].startswith(f"{environment.prefix}-")
        for output in stack.get("Outputs", [])
    }
    for name, value in settings_from(found).items():
        print(f"{name}={value}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except InfrastructureRefused as refused:
        sys.exit(f"error: {refused}")
