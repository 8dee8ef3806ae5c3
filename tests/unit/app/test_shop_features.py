"""An app with other events, entities and pairs of keys is in Feast, expectations, read plans and training columns alike."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.app.load import load_app
from stillpoint.feast_definitions import define
from stillpoint.features.columns import feature_columns
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.reading.plan import ReadPlan
from tests.support.wellness import APP
from training.ranker import ModelColumns
from validation.suites import snapshot_suite, view_suite

SHOP = load_app(str(Path(__file__).parents[3] / "examples" / "shop"))
STREAMED = ("browsing", "visit", "buying", "searching", "demand", "interest")
KEYS = {"demand": ("product_id",), "interest": ("user_id", "category")}
DEFINED = define(SHOP.features, lake_root="s3://bucket/lake", mapping_version=1)


@pytest.mark.parametrize("name", STREAMED)
def test_a_view_is_in_feast_lake_expectations_and_plan(name: str) -> None:
    view = SHOP.features.view(name)
    keys = KEYS.get(name, ("user_id",))
    registered = DEFINED.views[name]
    assert sorted(registered.join_keys) == sorted(keys)
    assert [field.name for field in registered.features] == list(view.feature_names)
    assert f"{name}_push" in DEFINED.sources
    columns = feature_columns(view)
    assert columns.names == [*keys, "event_timestamp", "created_timestamp", *view.feature_names]
    suite = view_suite(view)
    assert suite.key == (*keys, "event_timestamp", "created_timestamp")
    checked = {str(getattr(check, "column", "")).partition("__")[0] for check in suite.checks}
    assert set(keys) <= checked
    layout = ReadPlan.of_features("stillpoint_green", SHOP.features).view(name)
    assert tuple(key.name for key in layout.join_keys) == keys


def test_feast_s_registry_compiles_to_the_plan_of_the_declarations(tmp_path: Path) -> None:
    import feast

    config = feast.RepoConfig(
        project="shop",
        provider="local",
        registry={"path": str(tmp_path / "registry.pb")},
        online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
        entity_key_serialization_version=3,
    )
    feast.FeatureStore(config=config).apply(define(SHOP.features, lake_root=str(tmp_path), mapping_version=1).all())
    plan = compile_plan((tmp_path / "registry.pb").read_bytes(), "shop")
    declared = ReadPlan.of_features("shop", SHOP.features)
    for name in STREAMED:
        ours, theirs = declared.view(name), plan.view(name)
        assert (ours.sorted_join_keys, ours.features, ours.max_age_us) == (
            theirs.sorted_join_keys,
            theirs.features,
            theirs.max_age_us,
        )
    assert {part.view for part in plan.select(RANKER_SERVICE)} >= set(STREAMED)


def test_a_lake_holds_rows_of_every_view(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path), SHOP.features)
    for name in STREAMED:
        assert lake.read(f"features/{name}").schema == feature_columns(SHOP.features.view(name))
    assert lake.columns("features/session_bounce_rates") is None


def test_the_columns_of_a_model_and_a_snapshot_hold_no_word_of_another_app() -> None:
    assert SHOP.item is not None
    assert SHOP.item.name == "product"
    columns = ModelColumns.of(SHOP.features)
    assert {"views_10m", "views_30d", "last_category", "demand_views_1h", "browsing_age"} <= set(columns.order)
    assert "last_category" in columns.texts
    checks = snapshot_suite(SHOP.features).checks
    told = {*columns.order, *(str(getattr(check, "column", "")) for check in checks)}
    assert "product_id" in told
    foreign = {feature.name for view in APP.features.stored for feature in view} | {"content_id"}
    assert not told & (foreign - {feature.name for view in SHOP.features.stored for feature in view})
    assert not [name for name in told if re.search("sleep|bounce|heart|play", name)]
    assert all(pa.types.is_string(feature_columns(view).field(0).type) for view in SHOP.features.stored)
