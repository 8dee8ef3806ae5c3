"""Decides calls by policies, with the IAM evaluator of the AWS stand-in. Run in the stand-in's environment, `.venv-aws`.

Standard input: `{"policies": {name: document}, "calls": [[name, action, resource, context]]}`; standard output: a list of true
and false, one per call.
"""

import json
import sys
from typing import Any

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document


def decide(asked: dict[str, Any]) -> list[bool]:
    """Return for each call whether the policy allows it."""
    policies = {name: parse_policy_document(document) for name, document in asked["policies"].items()}
    found = []
    for name, action, resource, context in asked["calls"]:
        call = EvalContext(
            principal_arn=f"arn:aws:sts::111122223333:assumed-role/{name}/session",
            principal_type="AssumedRole",
            principal_account="111122223333",
            action=action,
            resource_arn=resource,
            region="us-east-1",
            service_context={key.lower(): value for key, value in context.items()},
        )
        found.append(evaluate(call, [policies[name]]).decision == "Allow")
    return found


if __name__ == "__main__":
    json.dump(decide(json.load(sys.stdin)), sys.stdout)
