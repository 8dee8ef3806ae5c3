"""Is a token known by its hash alone, and never shown again?"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from inference.problems import Problem
from inference.tokens import Scope, Tokens
from stillpoint.errors import InvalidSettings


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


def test_a_token_in_plain_text_is_refused_without_being_repeated(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text('{"tokens": [{"name": "app", "sha256": "my-plain-secret", "scopes": ["read"]}]}')
    with pytest.raises(InvalidSettings, match=r"tokens\.0\.sha256") as refused:
        Tokens.load(file)
    assert "my-plain-secret" not in str(refused.value)
