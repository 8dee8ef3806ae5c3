"""Whose request is this, and what may it do?

A file of `{"tokens": [{"name", "sha256", "scopes"}]}`: bearer tokens of at least 32 random bytes are kept as SHA-256 only, and
compared in constant time. `python -m inference.tokens NAME SCOPE…` prints a new token once, and its entry for the file.
"""

import hashlib
import hmac
import json
import secrets
import sys
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.problems import Problem
from stillpoint.errors import InvalidSettings


class Scope(StrEnum):
    READ = "read"
    PREDICT = "predict"
    WRITE_EVENTS = "write-events"
    ADMIN = "admin"
    """Everything."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[_Entry, ...] = Field(min_length=1)


class Tokens:
    """The tokens that a service knows."""

    def __init__(self, entries: tuple[_Entry, ...]) -> None:
        self._entries = entries

    @classmethod
    def load(cls, file: Path) -> "Tokens":
        """Read the file.

        Raises:
            InvalidSettings: it cannot be read or holds something else; the text shows no token.
        """
        try:
            return cls(_File.model_validate_json(file.read_bytes()).tokens)
        except OSError as error:
            raise InvalidSettings(f"STILLPOINT_HTTP_TOKENS: {file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidSettings(f"STILLPOINT_HTTP_TOKENS: {file} is refused at {where}: {first['msg']}") from None

    def demand(self, authorization: str | None, scope: Scope) -> None:
        """Let the bearer of a token with this scope, or with `admin`, pass.

        Raises:
            Problem: 401 without a token that is known, 403 without the scope.
        """
        kind, _, token = (authorization or "").partition(" ")
        found = hashlib.sha256(token.strip().encode(errors="surrogatepass")).hexdigest()
        bearer = None
        for entry in self._entries:  # all of them, so that time tells nothing of which one matched
            if hmac.compare_digest(entry.sha256, found):
                bearer = entry
        if kind.lower() != "bearer" or bearer is None:
            raise Problem(401, "Unauthorized", "send a known token as `Authorization: Bearer …`")
        if not bearer.scopes & {scope, Scope.ADMIN}:
            raise Problem(403, "Forbidden", f"this token lacks the scope {scope}")


def main() -> int:
    """Print a new token once, and its entry for the tokens file."""
    if len(sys.argv) < 3 or not set(sys.argv[2:]) <= set(Scope):
        sys.stderr.write(f"usage: python -m inference.tokens NAME SCOPE…   scopes: {', '.join(Scope)}\n")
        return 2
    token = secrets.token_urlsafe(32)
    entry = {"name": sys.argv[1], "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": sys.argv[2:]}
    sys.stdout.write(f"{token}\n{json.dumps(entry)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
