"""Settings of a secret count behind the environment's own, and nothing of a secret is ever shown."""

import json

import pytest

from stillpoint.errors import InvalidSettings
from stillpoint.secret_settings import fetch_secret, secret_settings
from stillpoint.settings import Settings

NAMED = {"STILLPOINT_SECRET_ID": "stillpoint/settings"}


def no_fetch(secret: str) -> str:
    raise AssertionError("nothing names a secret")


def test_without_a_name_no_secret_is_asked_for() -> None:
    assert secret_settings({}, no_fetch) == {}
    assert secret_settings({"STILLPOINT_SECRET_ID": ""}, no_fetch) == {}


def test_the_environment_counts_before_the_secret() -> None:
    text = json.dumps({"STILLPOINT_REDIS_GREEN": "a:1", "STILLPOINT_REDIS_BLUE": "b:1", "STILLPOINT_REDIS_STATE": ""})
    found = secret_settings(NAMED | {"STILLPOINT_REDIS_BLUE": "own:2"}, lambda secret: text)
    assert found == {"redis_green": "a:1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hunter2", "is not JSON"),
        ('["hunter2"]', "is no JSON object"),
        ('{"password": "hunter2"}', "holds password"),
        ('{"STILLPOINT_SEED": 7, "STILLPOINT_HOME": "hunter2"}', "holds STILLPOINT_SEED"),
    ],
)
def test_a_secret_of_another_form_is_refused_without_being_shown(text: str, said: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        secret_settings(NAMED, lambda secret: text)
    assert said in str(refused.value)
    assert "stillpoint/settings" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_the_settings_are_loaded_with_those_of_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLPOINT_SECRET_ID", "stillpoint/settings")
    monkeypatch.setenv("STILLPOINT_AWS_REGION", "eu-west-1")
    asked = []

    def fetched(secret: str, region: str, endpoint_url: str | None) -> str:
        asked.append((secret, region, endpoint_url))
        return '{"STILLPOINT_REDIS_GREEN": "green.example:6379,ssl=true,password=p"}'

    monkeypatch.setattr("stillpoint.settings.fetch_secret", fetched)
    loaded = Settings.load()
    assert loaded.redis_green.get_secret_value() == "green.example:6379,ssl=true,password=p"
    assert asked == [("stillpoint/settings", "eu-west-1", None)]
    assert "password=p" not in repr(loaded)


def test_a_secret_that_cannot_be_read_says_which_permission_that_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(InvalidSettings, match="may call secretsmanager:GetSecretValue on it"):
        fetch_secret("stillpoint/settings", "us-east-1", "http://127.0.0.1:9")
