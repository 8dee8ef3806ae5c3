"""Feast gets exactly what is declared."""

import pytest

from stillpoint.app.feature_set import RANKER_SERVICE, USER_SEQUENCE
from stillpoint.app.records import View
from stillpoint.feast_definitions import define
from tests.support.wellness import BIOMETRICS, FEATURES, SERVICES, STREAMED_VIEWS, VIEWS

DEFINED = define(FEATURES, lake_root="s3://bucket/lake", mapping_version=7)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_declared_feature_is_in_its_view_in_order(view: View) -> None:
    registered = DEFINED.views[view.name]
    assert [field.name for field in registered.features] == list(view.feature_names)
    assert registered.ttl == view.ttl
    assert registered.join_keys == [view.entity.join_key]


def test_names_follow_from_windows() -> None:
    assert "heart_rate_slope_10m" in BIOMETRICS.feature_names


def test_every_streamed_view_can_be_pushed_to() -> None:
    assert {name for name in DEFINED.sources if name.endswith("_push")} == {f"{v.name}_push" for v in STREAMED_VIEWS}


def test_the_mapping_comes_from_one_version_only_and_is_never_trained_on() -> None:
    assert DEFINED.views[USER_SEQUENCE.name].batch_source.path == "s3://bucket/lake/mappings/7"
    assert USER_SEQUENCE not in SERVICES[RANKER_SERVICE]


def test_there_is_a_service_for_the_ranker_and_one_per_view() -> None:
    assert set(DEFINED.services) == {RANKER_SERVICE, *(view.name for view in VIEWS)}


def test_names_of_objects_are_unique_across_their_kinds() -> None:
    assert len(DEFINED.named()) == len(DEFINED.all())
