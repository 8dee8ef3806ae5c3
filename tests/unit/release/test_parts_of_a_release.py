"""A release whose parts are missing, changed or made for others is refused, whoever loads it."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.errors import ReleaseRefused
from stillpoint.lake.objects import LocalObjects
from stillpoint.messages import Kind
from stillpoint.releases.colour import Colour
from stillpoint.releases.parts import refuse_other_encoder, verified_parts, verified_plan
from stillpoint.releases.records import Release, Route
from stillpoint.stores.reading.plan import ReadPlan
from tests.support.hand_made import contents, model
from tests.support.wellness import FEATURES

BUNDLE = model([one[0] for one in contents(6)])
OTHER = model([one[0] for one in contents(6)], seed=4)
PLAN = ReadPlan.of_features("stillpoint_green", FEATURES)


def release(objects: LocalObjects, **changes: Any) -> Release:
    """Return a release whose parts lie in the lake."""
    parts = {"releases/r0001/registry.pb": b"registry", "releases/r0001/read_plan.json": PLAN.to_json()}
    for key, data in {**parts, BUNDLE.key: BUNDLE.data}.items():
        objects.put(key, data)
    registry, plan = parts
    values: dict[str, Any] = {
        "registry": registry,
        "id": "r0001",
        "colour": Colour.GREEN,
        "project": PLAN.project,
        "connection": "127.0.0.1",
        "registry_sha256": hashlib.sha256(b"registry").hexdigest(),
        "definitions_sha256": BUNDLE.manifest.definitions_sha256,
        "read_plan": plan,
        "read_plan_sha256": PLAN.sha256,
        "feature_service": RANKER_SERVICE,
        "encoder_sha256": BUNDLE.manifest.encoder_sha256,
        "mapping_version": 1,
        "routes": dict.fromkeys(Kind, Route(model_uri=BUNDLE.key, sha256=BUNDLE.sha256)),
        "snapshot_id": BUNDLE.manifest.snapshot_id,
        "metrics": {},
        "created_at": datetime(2026, 11, 21, 12, tzinfo=UTC),
    }
    return Release(**{**values, **changes})


def test_whole_parts_are_those_of_the_record(objects: LocalObjects) -> None:
    made = release(objects)
    parts = verified_parts(objects, made)
    assert parts.plan == PLAN == verified_plan(objects, made)
    assert {digest: bundle.sha256 for digest, bundle in parts.models.items()} == {BUNDLE.sha256: BUNDLE.sha256}


@pytest.mark.parametrize("part", ["registry", "read_plan"])
def test_a_part_that_is_gone_or_changed_by_a_byte_is_refused_by_name(objects: LocalObjects, part: str) -> None:
    made = release(objects)
    key = getattr(made, part)
    what = part.replace("_", " ")
    objects.put(key, objects.get(key) + b" ")
    with pytest.raises(ReleaseRefused, match=f"release r0001: .*{what} .*{key} has sha256 .*; its record says"):
        verified_parts(objects, made)
    objects.delete(key)
    with pytest.raises(ReleaseRefused, match=f"release r0001: its .*{what} {key} is gone"):
        verified_parts(objects, made)


def test_a_model_that_is_gone_damaged_or_another_one_is_refused(objects: LocalObjects) -> None:
    made = release(objects)
    for wrong in (BUNDLE.data[:-10], OTHER.data):
        objects.put(BUNDLE.key, wrong)
        with pytest.raises(ReleaseRefused, match=f"release r0001: .* expected {BUNDLE.sha256}: it is damaged"):
            verified_parts(objects, made)
    objects.delete(BUNDLE.key)
    with pytest.raises(ReleaseRefused, match=f"there is no model {BUNDLE.key}"):
        verified_parts(objects, made)


def test_a_model_of_another_mapping_or_encoder_is_refused(objects: LocalObjects) -> None:
    with pytest.raises(ReleaseRefused, match=r"is of mapping 1; the release records mapping 2"):
        verified_parts(objects, release(objects, mapping_version=2))
    made = release(objects, encoder_sha256="f" * 64)
    with pytest.raises(ReleaseRefused, match=r"was trained with text encoder .*; the release records ffffffffffff"):
        verified_parts(objects, made)
    with pytest.raises(ReleaseRefused, match="this process works with text encoder eeeeeeeeeeee; the release records"):
        refuse_other_encoder(made, "e" * 64, "this process works")
