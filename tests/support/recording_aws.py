"""The AWS stand-in that writes down each call with who made it, as the stand-in's own IAM names action and resource.

A program of its own, run in the stand-in's environment with AUTH=true, where each call is decided by the policies of the role
that its access key was given for. `RECORD_CALLS` names the file: a JSON line per call; who calls is the access key's id.
"""

import json
import os
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

evaluator: Any = import_module("ministack.core.iam_evaluator")


def recording(enforce: Any, sink: Any) -> Any:
    """Wrap the decision on a call, so that the call is written down with it."""

    def run(
        access_key_id: str, iam_action: str, service: str, region: str, resource_arn: str = "*", *rest: Any, **more: Any
    ) -> Any:
        denied = enforce(access_key_id, iam_action, service, region, resource_arn, *rest, **more)
        line = {"who": access_key_id, "action": iam_action, "resource": resource_arn, "allowed": denied is None}
        sink.write(json.dumps(line) + "\n")
        sink.flush()
        return denied

    return run


if __name__ == "__main__":
    log = Path(os.environ["RECORD_CALLS"]).open("a", encoding="utf-8")  # noqa: SIM115  it ends with the program
    evaluator.enforce = recording(evaluator.enforce, log)
    program = Path(__file__).parents[2] / "stillpoint" / "local" / "aws_program.py"
    sys.argv = [str(program)]
    runpy.run_path(str(program), run_name="__main__")
