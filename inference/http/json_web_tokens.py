"""Bearer tokens that an identity provider signs (OpenID Connect, OAuth 2.0): JSON Web Tokens, RFC 7519 and 9068.

Keys come from the provider's JSON Web Key Set, over HTTPS or from a file, and are read anew every few minutes and when a token
names an unknown key. Only asymmetric signatures count: with `none` or a shared secret anybody who reads could also write. A
token whose `scope` holds `user` is a user's own: its `sub` is their user id, and it reaches only what is theirs. Any other
token is a service's, and its `scope` names the scopes of this service.
"""

import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

import jwt

from inference.http.identity import Bearers, Caller
from inference.scopes import Scope
from inference.tokens import refuse_scope, refuse_unknown_token
from stillpoint.errors import InvalidSettings

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
USER_SCOPE = "user"
LEEWAY_SECONDS = 30
"""How far the clocks of provider and service may lie apart."""
RENEW_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""Keys are not read more often than this, however many tokens name an unknown one."""
_MOST_BYTES = 1_000_000

ReadKeys = Callable[[], bytes]
"""Returns the key set as JSON, or raises OSError."""


class KeySet:
    """The provider's public keys by their ids, read again in a thread of its own. While that fails, the old ones count."""

    def __init__(self, read: ReadKeys, source: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read the keys.

        Raises:
            InvalidSettings: they cannot be read, or are no key set.
        """
        self._read, self._source, self._monotonic = read, source, monotonic
        self._keys = self._load()
        self._read_at = monotonic()
        self._wanted, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
        self._thread.start()

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return a key, or None if it is unknown; an unknown one is asked for in the background."""
        found = self._keys.get(key_id or "")
        if found is None:
            self._wanted.set()
        return found

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._wanted.set()
        self._thread.join(10)

    def renew(self) -> None:
        """Read the keys now, unless they were read a moment ago."""
        if self._monotonic() - self._read_at < RETRY_SECONDS:
            return
        self._read_at = self._monotonic()
        try:
            self._keys = self._load()
        except InvalidSettings as error:
            log.error("the keys known before go on to count: %s", error)

    def _load(self) -> dict[str, jwt.PyJWK]:
        try:
            keys = jwt.PyJWKSet.from_json(self._read().decode()).keys
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise InvalidSettings(f"STILLPOINT_HTTP_JWT_KEYS: no key set at {self._source}: {error}") from None
        return {key.key_id or "": key for key in keys}

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wanted.wait(RENEW_SECONDS)
            self._wanted.clear()
            if not self._stop.is_set():
                self.renew()
                self._stop.wait(RETRY_SECONDS)


def key_set(source: str) -> KeySet:
    """Return the keys of an `https://` address or of a file.

    Raises:
        InvalidSettings: they cannot be read, or would travel unprotected.
    """
    address = urlsplit(source)
    if address.scheme == "http" and address.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise InvalidSettings(f"STILLPOINT_HTTP_JWT_KEYS: {source} is not protected on its way; use https")
    if address.scheme in ("http", "https"):
        return KeySet(lambda: _fetched(source), source)
    return KeySet(lambda: _file(source), source)


def _fetched(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=5) as answer:
        data: bytes = answer.read(_MOST_BYTES)
        return data


def _file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MOST_BYTES)


class JsonWebTokens:
    """Accepts the tokens of one issuer for one audience; `others` are asked about tokens that are no JSON Web Tokens."""

    def __init__(self, keys: KeySet, *, issuer: str, audience: str, others: Bearers | None) -> None:
        self._keys, self._issuer, self._audience, self._others = keys, issuer, audience, others

    def demand(self, authorization: str | None, scope: Scope, *, for_users: bool = False) -> Caller:
        """Return who sends a request, by the claims of its token.

        Raises:
            Problem: 401 if the token is missing, expired, of another issuer or audience, or not signed by a known key; 403 if
                it does not allow the scope.
        """
        kind, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if token.count(".") != 2 and self._others is not None:
            return self._others.demand(authorization, scope, for_users=for_users)
        if kind.lower() != "bearer":
            raise refuse_unknown_token(authorization)
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(header.get("kid"))
            if key is None:
                raise refuse_unknown_token(authorization, "its key is unknown")
            claims = jwt.decode(
                token,
                key=key,
                algorithms=[one for one in ALGORITHMS if one == key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise refuse_unknown_token(authorization, "it has expired") from None
        except jwt.InvalidIssuerError:
            raise refuse_unknown_token(authorization, "it is of another issuer") from None
        except jwt.InvalidAudienceError:
            raise refuse_unknown_token(authorization, "it is for another audience") from None
        except jwt.PyJWTError:
            raise refuse_unknown_token(authorization) from None
        return _caller(claims["sub"], _scopes(claims.get("scope", claims.get("scp", ""))), scope, for_users)


def _scopes(claim: object) -> frozenset[str]:
    if isinstance(claim, str):
        return frozenset(claim.split())
    return frozenset(one for one in claim if isinstance(one, str)) if isinstance(claim, list) else frozenset()


def _caller(subject: str, scopes: frozenset[str], scope: Scope, for_users: bool) -> Caller:
    if USER_SCOPE in scopes:
        if not for_users:
            raise refuse_scope(scope)
        return Caller(f"user {subject}", subject)
    if not scopes & {scope, Scope.ADMIN}:
        raise refuse_scope(scope)
    return Caller(f"service {subject}")
