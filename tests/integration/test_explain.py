"""A recommendation can be explained from what was logged of it."""

import math
from typing import Any

import pytest

from inference.live.loaded_release import load
from inference.predictions.explain import explain, logged_user, served_record
from inference.predictions.predict import Guard, PredictionTask, predict
from inference.predictions.served_log import ServedLog
from stillpoint.clock import from_micros, system_clock, to_micros
from stillpoint.errors import InvalidInput
from stillpoint.messages import Kind
from stillpoint.model import ModelBundle
from stillpoint.releases.book import ObjectReleaseBook
from tests.support.hand_made import hand_made
from tests.support.wellness import FEATURES


def test_contributions_from_the_log_add_up_to_what_the_prediction_used(
    s3_lake: Any, settings: Any, unique: str
) -> None:
    made = hand_made(s3_lake, settings, project=unique)
    made.point()
    book = ObjectReleaseBook(s3_lake.objects)
    pointer = book.live()
    assert pointer is not None
    now = system_clock()
    loaded = load(book, s3_lake, settings, pointer.release, pointer.generation, now=now)
    found = loaded.users.decode_one(loaded.reader.read(loaded.users.names, {"user_id": ["u0"]}, now_us=to_micros(now)))
    ask = PredictionTask("request-1", "u0", Kind.TODAY, from_micros(to_micros(now)), None)
    prediction = predict(loaded, ask, found, (), at=ask.happened, guard=Guard())
    log = ServedLog(s3_lake, clock=system_clock, erasure_key=b"key")
    log.add(prediction)
    log.close()
    served = served_record(s3_lake, prediction.recommendation_id)
    again = logged_user(served, FEATURES)
    for name, values in found.columns.items():
        for expected, seen in zip(values.ravel().tolist(), again.columns[name].ravel().tolist(), strict=True):
            assert seen == expected or (isinstance(seen, float) and math.isnan(seen) and math.isnan(expected)), name
    route = loaded.release.routes[Kind.TODAY]
    bundle = ModelBundle.load(s3_lake.objects.get(route.model_uri))
    explained = explain(served, bundle, loaded.contents)
    assert list(explained.contributions) == [item.content_id for item in prediction.items]
    assert explained.document()["release"] == loaded.id


def test_an_unknown_recommendation_is_said_to_be_unknown(s3_lake: Any) -> None:
    with pytest.raises(InvalidInput, match="no recommendation 'none' in the served log"):
        served_record(s3_lake, "none")
