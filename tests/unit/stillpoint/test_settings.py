"""Settings are read, refused and hidden as they should be."""

import os

import pytest

from stillpoint.errors import InvalidSettings
from stillpoint.feast_config import feast_environment, repo_document
from stillpoint.lake.objects import aws_session
from stillpoint.releases.colour import Colour, project_name
from stillpoint.settings import Settings


def test_all_malformed_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLPOINT_HTTP_PORT", "no")
    monkeypatch.setenv("STILLPOINT_EVENT_SHARDS", "0")
    with pytest.raises(InvalidSettings, match=r"STILLPOINT_EVENT_SHARDS: .*STILLPOINT_HTTP_PORT: "):
        Settings.load()


def test_a_lake_of_unknown_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLPOINT_LAKE", "gs://bucket")
    with pytest.raises(InvalidSettings, match=r"lake is 'gs://bucket'; expected s3://bucket/prefix or a folder"):
        Settings.load()


def test_real_aws_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLPOINT_AWS_ENDPOINT_URL", "aws")
    assert Settings.load().aws_client_arguments() == {"region_name": "us-east-1"}


def test_the_region_of_real_aws_comes_from_its_own_variables_and_ours_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def region() -> str:
        return Settings.load().aws_client_arguments()["region_name"]

    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "STILLPOINT_AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert region() == "us-east-1", "the stand-in has its own"
    monkeypatch.setenv("STILLPOINT_AWS_ENDPOINT_URL", "aws")
    assert region() == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert region() == "eu-north-1"
    monkeypatch.setenv("STILLPOINT_AWS_REGION", "us-west-2")
    assert region() == "us-west-2"


def test_aws_sessions_take_the_same_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert aws_session.__wrapped__().region_name == "eu-north-1"
    monkeypatch.delenv("AWS_REGION")
    assert aws_session.__wrapped__().region_name == "eu-west-1"


def test_a_session_token_goes_wherever_the_keys_go() -> None:
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    settings = Settings(_env_file=None, aws_endpoint_url="aws", **{name: f"the {name}" for name in names})  # type: ignore[arg-type]
    assert settings.aws_client_arguments() == {"region_name": settings.aws_region} | {n: f"the {n}" for n in names}
    assert repo_document(settings, "green")["offline_store"]["s3"]["session_token"] == "the aws_session_token"
    with feast_environment(settings, None):
        assert os.environ["AWS_SESSION_TOKEN"] == "the aws_session_token"
    assert "the aws" not in repr(settings)


def test_keys_without_a_token_are_not_mixed_with_the_token_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of somebody else")
    with feast_environment(Settings(_env_file=None), None):
        assert "AWS_SESSION_TOKEN" not in os.environ
    assert os.environ["AWS_SESSION_TOKEN"] == "of somebody else"


@pytest.mark.parametrize("alone", ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"])
def test_half_a_set_of_keys_is_refused(monkeypatch: pytest.MonkeyPatch, alone: str) -> None:
    monkeypatch.setenv(f"STILLPOINT_AWS_{alone}", "x")
    with pytest.raises(InvalidSettings, match="AWS keys are incomplete"):
        Settings.load()


def test_secrets_do_not_show() -> None:
    settings = Settings(redis_green="host:6379,password=swordfish", erasure_key="swordfish")  # type: ignore[arg-type]
    assert "swordfish" not in repr(settings)
    assert settings.connection(Colour.GREEN) == "host:6379,password=swordfish"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().http_port = 1  # type: ignore[misc]


def test_no_project_name_is_a_suffix_of_another() -> None:
    names = [project_name(name) for name in (*Colour, "sandbox")]
    assert not any(a != b and a.endswith(b) for a in names for b in names)
