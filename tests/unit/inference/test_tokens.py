"""A token is known by its hash alone, and never shown again."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from inference.http.problems import Problem
from inference.scopes import Scope
from inference.tokens import LOOK_SECONDS, Tokens, TokensFile
from stillpoint.errors import InvalidSettings
from tests.support.service_process import token_file


def new_token(*arguments: str) -> tuple[str, str]:
    made = subprocess.run(
        [sys.executable, "-m", "inference.tokens", *arguments], capture_output=True, text=True, check=True
    )
    token, entry = made.stdout.splitlines()
    return token, entry


def test_a_new_token_is_kept_as_its_hash_and_opens_its_scopes_alone(tmp_path: Path) -> None:
    token, entry = new_token("app", "read")
    assert token not in entry
    assert json.loads(entry)["sha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert len(token) >= 43  # 32 random bytes
    file = tmp_path / "tokens.json"
    file.write_text(f'{{"tokens": [{entry}]}}')
    tokens = Tokens.load(file)
    tokens.demand(f"Bearer {token}", Scope.READ)
    for given, scope, status in (
        (f"Bearer {token}", Scope.PREDICT, 403),
        (f"Basic {token}", Scope.READ, 401),
        (f"Bearer {json.loads(entry)['sha256']}", Scope.READ, 401),  # the file's content opens nothing
        ("Bearer \udcff", Scope.READ, 401),
        (None, Scope.READ, 401),
    ):
        with pytest.raises(Problem) as refused:
            tokens.demand(given, scope)
        assert refused.value.status == status
        challenge = refused.value.response().headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="stillpoint"')
        assert ("insufficient_scope" in challenge, "invalid_token" in challenge) == (
            status == 403,
            status == 401 and given is not None,
        )


def test_a_token_in_plain_text_is_refused_without_being_repeated(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text('{"tokens": [{"name": "app", "sha256": "my-plain-secret", "scopes": ["read"]}]}')
    with pytest.raises(InvalidSettings, match=r"tokens\.0\.sha256") as refused:
        Tokens.load(file)
    assert "my-plain-secret" not in str(refused.value)


def test_tokens_are_added_and_revoked_without_a_restart_and_a_broken_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, known = token_file(tmp_path, {"old": ["read"]})
    old, now = known["old"], [0.0]
    tokens = TokensFile(file, monotonic=lambda: now[0])
    tokens.demand(f"Bearer {old}", Scope.READ)

    new = token_file(tmp_path, {"new": ["read"]})[1]["new"]
    tokens.demand(f"Bearer {old}", Scope.READ)  # it has not looked yet
    now[0] += LOOK_SECONDS
    tokens.demand(f"Bearer {new}", Scope.READ)
    with pytest.raises(Problem):
        tokens.demand(f"Bearer {old}", Scope.READ)

    for break_it in (lambda: file.write_text('{"tokens": [{"name": "my-secret"'), file.unlink):
        break_it()
        now[0] += LOOK_SECONDS
        tokens.demand(f"Bearer {new}", Scope.READ)
    assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 2
    assert "my-secret" not in caplog.text

    again = token_file(tmp_path, {"again": ["read"]})[1]["again"]
    now[0] += LOOK_SECONDS
    tokens.demand(f"Bearer {again}", Scope.READ)
    with pytest.raises(Problem):
        tokens.demand(f"Bearer {new}", Scope.READ)
