"""Settings that lie in AWS Secrets Manager: one secret, a JSON object of the same variables as the environment's.

Read by `Settings.load` where `STILLPOINT_SECRET_ID` names the secret. What the environment says itself counts first.
"""

import json
from collections.abc import Callable, Mapping
from importlib import import_module

from stillpoint.errors import InvalidSettings

PREFIX = "STILLPOINT_"
SECRET_ID = f"{PREFIX}SECRET_ID"


def secret_settings(environment: Mapping[str, str], fetch: Callable[[str], str]) -> dict[str, str]:
    """Return the fields that the named secret sets and the environment does not; none if it names no secret.

    Raises:
        InvalidSettings: the secret is no JSON object of our variables. The text shows none of its values.
    """
    secret = environment.get(SECRET_ID)
    if not secret:
        return {}
    try:
        found = json.loads(fetch(secret))
    except ValueError:
        raise InvalidSettings(f"settings refused; the secret {secret} is not JSON; {_EXPECTED}") from None
    if not isinstance(found, dict):
        raise InvalidSettings(f"settings refused; the secret {secret} is no JSON object; {_EXPECTED}")
    odd = [name for name, value in found.items() if not (name.startswith(PREFIX) and isinstance(value, str))]
    if odd:
        raise InvalidSettings(f"settings refused; the secret {secret} holds {', '.join(sorted(odd))}; {_EXPECTED}")
    return {
        name.removeprefix(PREFIX).lower(): value for name, value in found.items() if value and not environment.get(name)
    }


_EXPECTED = 'expected an object of texts such as {"STILLPOINT_REDIS_GREEN": "host:6379,ssl=true"}'


def fetch_secret(secret: str, region: str, endpoint_url: str | None) -> str:
    """Read a secret's text with AWS's own chain of credentials.

    Raises:
        InvalidSettings: it cannot be read; the text says which permission that takes.
    """
    # By name: settings are read everywhere, also where no store may be touched and no boto3 is installed.
    boto3, exceptions = import_module("boto3"), import_module("botocore.exceptions")
    try:
        client = boto3.client("secretsmanager", region_name=region, endpoint_url=endpoint_url)
        return str(client.get_secret_value(SecretId=secret)["SecretString"])
    except (exceptions.BotoCoreError, exceptions.ClientError, KeyError) as error:
        raise InvalidSettings(
            f"settings refused; the secret {secret} cannot be read ({error}); expected one with a text in {region}, and a role "
            "that may call secretsmanager:GetSecretValue on it, and kms:Decrypt on its key"
        ) from None
