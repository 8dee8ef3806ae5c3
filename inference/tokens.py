"""Bearer tokens and their scopes: which requests a caller may make.

The tokens file is `{"tokens": [{"name", "sha256", "scopes"}]}`. Tokens are at least 32 random bytes; only their SHA-256 is
stored, and it is compared in constant time. `python -m inference.tokens NAME SCOPE…` prints a new token once, and its
entry for the file.
"""

import hashlib
import hmac
import json
import logging
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.http.identity import Caller
from inference.http.problems import Problem
from inference.scopes import Scope
from stillpoint.cli import arguments
from stillpoint.cli.program import run_program
from stillpoint.errors import InvalidSettings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
CHALLENGE = "WWW-Authenticate"
_REALM = 'Bearer realm="stillpoint"'


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[_Entry, ...] = Field(min_length=1)


class Tokens:
    """The tokens that a service accepts, with their scopes."""

    def __init__(self, entries: tuple[_Entry, ...]) -> None:
        self._entries = entries

    @classmethod
    def load(cls, file: Path) -> "Tokens":
        """Read a tokens file.

        Raises:
            InvalidSettings: the file cannot be read or is malformed; the text shows no token.
        """
        try:
            return cls(_File.model_validate_json(file.read_bytes()).tokens)
        except OSError as error:
            raise InvalidSettings(f"STILLPOINT_HTTP_TOKENS: {file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidSettings(f"STILLPOINT_HTTP_TOKENS: {file} is refused at {where}: {first['msg']}") from None

    def demand(self, authorization: str | None, scope: Scope, *, for_users: bool = False) -> Caller:
        """Return the holder if the `Authorization` header holds a known token with this scope, or with `admin`.

        All tokens of the file are services': `for_users` changes nothing.

        Raises:
            Problem: 401 if there is no known token, 403 if the token lacks the scope.
        """
        kind, _, token = (authorization or "").partition(" ")
        found = hashlib.sha256(token.strip().encode(errors="surrogatepass")).hexdigest()
        bearer = None
        for entry in self._entries:  # compare with all entries, so that timing does not reveal which one matched
            if hmac.compare_digest(entry.sha256, found):
                bearer = entry
        if kind.lower() != "bearer" or bearer is None:
            raise refuse_unknown_token(authorization)
        if not bearer.scopes & {scope, Scope.ADMIN}:
            raise refuse_scope(scope)
        return Caller(f"service {bearer.name}")


def refuse_unknown_token(authorization: str | None, why: str = "") -> Problem:
    """Return the problem (401) of a missing or unknown token, with the challenge that RFC 6750 asks for."""
    unknown = ', error="invalid_token"' if authorization else ""
    detail = "send a known token as `Authorization: Bearer …`" + (f": {why}" if why else "")
    return Problem(401, "Unauthorized", detail, headers={CHALLENGE: f"{_REALM}{unknown}"})


def refuse_scope(scope: Scope) -> Problem:
    """Return the problem (403) of a token that does not allow a scope."""
    challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
    return Problem(403, "Forbidden", f"this token lacks the scope {scope}", headers={CHALLENGE: challenge})


class TokensFile:
    """The tokens of a file that is read again when it changes, so that tokens are added and revoked without a restart.

    A change takes effect within `LOOK_SECONDS`. While the file is missing or malformed, the tokens read before stay valid.
    """

    def __init__(self, file: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Raises:
            InvalidSettings: the file cannot be read or is malformed.
        """
        self._file = file
        self._monotonic = monotonic
        self._state = _state(file)
        self._tokens = Tokens.load(file)
        self._look_at = monotonic() + LOOK_SECONDS

    def demand(self, authorization: str | None, scope: Scope, *, for_users: bool = False) -> Caller:
        """Check a request as `Tokens.demand` does, with the file's present tokens."""
        if self._monotonic() >= self._look_at:
            self._look_at = self._monotonic() + LOOK_SECONDS
            self._look()
        return self._tokens.demand(authorization, scope, for_users=for_users)

    def _look(self) -> None:
        state = _state(self._file)
        if state == self._state:
            return
        self._state = state
        try:
            self._tokens = Tokens.load(self._file)
        except InvalidSettings as error:
            log.error("the tokens known before go on to count: %s", error)
        else:
            log.warning("the tokens were read anew from their file")


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def main(
    name: Annotated[str, typer.Argument(parser=arguments.label, metavar="NAME", help="Whose token it is.")],
    scopes: Annotated[list[Scope], typer.Argument(metavar="SCOPE…", help=f"Of {', '.join(Scope)}.")],
) -> None:
    """Print a new token once, and its entry for the tokens file."""
    token = secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": list(dict.fromkeys(scopes))}
    sys.stdout.write(f"{token}\n{json.dumps(entry)}\n")


if __name__ == "__main__":
    raise SystemExit(run_program("inference.tokens", main, sys.argv[1:]))
