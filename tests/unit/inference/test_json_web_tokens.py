"""Tokens of an identity provider: only a whole one, of the known issuer, for this service, opens what its scopes name."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from inference.http.identity import Caller, RateLimit
from inference.http.json_web_tokens import RETRY_SECONDS, JsonWebTokens, KeySet, key_set
from inference.http.problems import Problem
from inference.scopes import Scope
from stillpoint.errors import InvalidSettings
from stillpoint.settings import Settings
from tests.support.issuer import AUDIENCE, ISSUER, Issuer


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def keys(issuer: Issuer) -> Iterator[KeySet]:
    found = KeySet(issuer.key_set, "the test")
    yield found
    found.close()


@pytest.fixture
def tokens(keys: KeySet) -> JsonWebTokens:
    return JsonWebTokens(keys, issuer=ISSUER, audience=AUDIENCE, others=None)


def refused(tokens: JsonWebTokens, token: str, scope: Scope = Scope.READ, **more: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        tokens.demand(f"Bearer {token}", scope, **more)
    return caught.value


def test_a_services_token_opens_what_its_scopes_name(issuer: Issuer, tokens: JsonWebTokens) -> None:
    token = issuer.token(scope="read predict")
    assert tokens.demand(f"Bearer {token}", Scope.PREDICT) == Caller("service recommender")
    assert refused(tokens, token, Scope.ADMIN).status == 403
    everything = issuer.token(scope="admin")
    assert tokens.demand(f"bearer {everything}", Scope.WRITE_EVENTS).name == "service recommender"


def test_a_users_token_reaches_only_its_own_user_and_only_where_users_may_come(
    issuer: Issuer, tokens: JsonWebTokens
) -> None:
    token = issuer.token(subject="u7", scope="user")
    caller = tokens.demand(f"Bearer {token}", Scope.READ, for_users=True)
    assert caller == Caller("user u7", "u7")
    caller.refuse_other("u7")
    with pytest.raises(Problem, match="only what is its own user's"):
        caller.refuse_other("u8")
    assert refused(tokens, token, Scope.READ).status == 403
    with_admin = issuer.token(subject="u7", scope="user admin")
    assert refused(tokens, with_admin, Scope.ADMIN).status == 403, "a user's token never becomes a service's"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iss": "https://id.example.net"}, "another issuer"),
        ({"aud": "somebody else"}, "another audience"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"exp": None}, "known token"),
        ({"sub": None}, "known token"),
        ({"aud": None}, "known token"),
        ({"nbf": 4_000_000_000}, "known token"),
    ],
)
def test_a_token_of_somebody_else_for_somebody_else_or_of_another_time_is_unknown(
    changes: dict[str, Any], words: str, issuer: Issuer, tokens: JsonWebTokens
) -> None:
    problem = refused(tokens, issuer.token(**changes))
    assert problem.status == 401
    assert words in problem.detail
    assert 'error="invalid_token"' in problem.headers["WWW-Authenticate"]


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_an_unsigned_or_wrongly_signed_token_is_unknown(issuer: Issuer, tokens: JsonWebTokens) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "scope": "admin", "exp": int(time.time()) + 300}
    unsigned = f"{part({'alg': 'none', 'kid': 'k1'})}.{part(claims)}."
    shared = jwt.encode(
        claims, "a secret that many know, and long enough" * 2, algorithm="HS256", headers={"kid": "k1"}
    )
    stranger = Issuer("k1").token(scope="admin")
    unknown = Issuer("k9").token(scope="admin")
    head, _, tail = issuer.token(scope="read").split(".")
    changed = f"{head}.{part(claims)}.{tail}"
    for token in (unsigned, shared, stranger, unknown, changed, "a.b.c", "..", "nonsense", ""):
        assert refused(tokens, token).status == 401, token
    with pytest.raises(Problem) as caught:
        tokens.demand(None, Scope.READ)
    assert 'error="' not in caught.value.headers["WWW-Authenticate"]


def test_keys_follow_the_issuer_and_the_old_ones_count_while_it_is_away(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Issuer("k1"), Issuer("k2")
    answers: list[bytes | OSError] = [first.key_set(), OSError("away"), second.key_set()]
    now = [0.0]

    def read() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    keys = KeySet(read, "the test", monotonic=lambda: now[0])
    try:
        tokens = JsonWebTokens(keys, issuer=ISSUER, audience=AUDIENCE, others=None)
        keys.renew()
        assert len(answers) == 2, "it was read a moment ago"
        now[0] += RETRY_SECONDS
        keys.renew()
        assert (
            "the keys known before go on to count: STILLPOINT_HTTP_JWT_KEYS: no key set at the test: away"
            in caplog.text
        )
        tokens.demand(f"Bearer {first.token()}", Scope.READ)
        assert refused(tokens, second.token()).status == 401
        now[0] += RETRY_SECONDS
        keys.renew()
        tokens.demand(f"Bearer {second.token()}", Scope.READ)
        assert refused(tokens, first.token()).status == 401, "the issuer has withdrawn it"
    finally:
        keys.close()


def test_a_key_set_that_is_none_or_travels_unprotected_is_refused(tmp_path: Any) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    with pytest.raises(InvalidSettings, match=r"no key set at .*keys\.json"):
        key_set(str(tmp_path / "keys.json"))
    with pytest.raises(InvalidSettings, match=r"no key set at .*missing\.json"):
        key_set(str(tmp_path / "missing.json"))
    with pytest.raises(InvalidSettings, match="is not protected on its way; use https"):
        key_set("http://id.example.org/keys")


def test_half_of_the_settings_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="belong together: a token is taken only of a known issuer"):
        Settings(_env_file=None, http_jwt_issuer=ISSUER)
    with pytest.raises(ValueError, match="HTTPS needs both"):
        Settings(_env_file=None, http_key="key.pem")


def test_each_caller_has_a_rate_of_its_own() -> None:
    now = [0.0]
    limit = RateLimit(2.0, monotonic=lambda: now[0])
    ann, bob = Caller("service ann"), Caller("service bob")
    for _ in range(4):
        limit.take(ann)
    with pytest.raises(Problem) as caught:
        limit.take(ann)
    assert (caught.value.status, caught.value.retry_after) == (429, 1)
    limit.take(bob)
    now[0] += 0.5
    limit.take(ann)
    with pytest.raises(Problem):
        limit.take(ann)
