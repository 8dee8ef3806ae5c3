"""Are settings read, refused and hidden as they should be?"""

import pytest

from stillpoint.errors import InvalidSettings
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
