"""A model that is missing, damaged, swapped or asks for unknown columns is refused before a release takes it."""

import pandas as pd
import pytest
from mlflow.pyfunc import PythonModelContext

from release.models import refuse_unknown_inputs
from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.errors import ModelRefused, ReleaseRefused
from stillpoint.lake.objects import LocalObjects
from stillpoint.messages import Kind
from stillpoint.model import ModelBundle, model_key
from stillpoint.releases.parts import load_models
from stillpoint.releases.records import Route
from stillpoint.stores.reading.plan import ReadPlan
from tests.support.hand_made import contents, model
from tests.support.wellness import FEATURES
from training.registered_model import RankerModel

IDS = [one[0] for one in contents(6)]


def routes(sha256: str) -> dict[Kind, Route]:
    return {Kind.TODAY: Route(model_uri=model_key(sha256), sha256=sha256)}


def test_an_artifact_that_is_missing_damaged_or_another_one_is_refused(objects: LocalObjects) -> None:
    good, other = model(IDS), model(IDS, seed=4)
    with pytest.raises(ReleaseRefused, match=f"there is no model models/{good.sha256}"):
        load_models(objects, routes(good.sha256))
    objects.put(good.key, good.data)
    assert load_models(objects, routes(good.sha256))[good.sha256].sha256 == good.sha256
    for wrong in (good.data[:-10], other.data):
        objects.put(good.key, wrong)
        with pytest.raises(ModelRefused, match=f"expected {good.sha256}: it is damaged or belongs to another release"):
            load_models(objects, routes(good.sha256))
    assert list(objects.list("")) == [good.key]


def test_a_model_that_wants_a_column_that_nobody_provides_is_refused_by_name() -> None:
    good = model(IDS)
    plan = ReadPlan.of_features("stillpoint_green", FEATURES)
    refuse_unknown_inputs({good.sha256: good}, plan, RANKER_SERVICE, FEATURES)
    order = tuple("plays_8d" if name == "plays_7d" else name for name in good.manifest.feature_order)
    wanting = ModelBundle.__new__(ModelBundle)
    wanting.__dict__.update({**good.__dict__, "manifest": good.manifest.model_copy(update={"feature_order": order})})
    with pytest.raises(ReleaseRefused, match="wants plays_8d, which feature service ranker_v1 does not provide"):
        refuse_unknown_inputs({"a" * 64: wanting}, plan, RANKER_SERVICE, FEATURES)


def test_a_swapped_artifact_of_a_registered_model_is_refused_and_a_missing_column_is_named(
    objects: LocalObjects,
) -> None:
    good, other = model(IDS), model(IDS, seed=4)
    objects.put("good", good.data)
    objects.put("other", other.data)
    loaded = RankerModel()

    def context(name: str) -> PythonModelContext:
        return PythonModelContext({"bundle": f"{objects.root}/{name}"}, {"bundle_sha256": good.sha256})

    with pytest.raises(ModelRefused, match=f"has sha256 {other.sha256}; expected {good.sha256}"):
        loaded.load_context(context("other"))
    loaded.load_context(context("good"))
    frame = pd.DataFrame({"content_id": IDS, "sequence_id": [-1] * len(IDS)})
    with pytest.raises(ModelRefused, match=r"needs columns .*, which the input lacks"):
        loaded.predict(context("good"), frame)
