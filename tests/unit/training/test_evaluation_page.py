"""The page of an evaluation says what it rests on, in one file that fetches nothing."""

import math
import re

import pytest

from training.evaluate import Estimate
from training.evaluation_page import SIMULATED, page
from training.train import Evaluation

RANKINGS = ("ranker", "without_real_time", "popularity")


def one(value: float, lists: int = 40) -> Estimate:
    return Estimate(value=value, low=value - 0.05, high=value + 0.05, lists=lists)


def evaluation(lift: float = -0.1, **changes: object) -> Evaluation:
    nobody = Estimate(value=math.nan, low=math.nan, high=math.nan, lists=0)
    everybody = {
        name: {"ndcg@3": one(0.7 - place / 10), "recall@3": one(0.5), "ndcg_lift": one(lift * place)}
        for place, name in enumerate(RANKINGS)
    }
    empty = {name: dict.fromkeys(("ndcg@3", "recall@3", "ndcg_lift"), nobody) for name in RANKINGS}
    document = {
        "data": "simulated",
        "snapshot_id": "s1",
        "seed": 7,
        "train_rows": 7_000,
        "test_rows": 2_000,
        "best_round": 40,
        "results": {"all": everybody, "after a search": everybody, "new users": empty, "locale <b>": everybody},
        "coverage": dict.fromkeys(RANKINGS, 0.5),
        "calibration_error": 0.0123,
        "ceiling_known": False,
    }
    return Evaluation.model_validate(document | changes)


def test_a_page_tells_every_context_with_its_interval_and_fetches_nothing() -> None:
    shown = page(evaluation(), "a" * 64)
    assert shown == page(evaluation(), "a" * 64)
    assert "0.700 (0.650 to 0.750)" in shown
    assert "<td>new users<td>0<td>no list" in shown
    assert "locale &lt;b&gt;" in shown
    assert shown.count("<svg") == 2
    assert "By context" in shown
    assert "By gender and locale" in shown
    assert "0.0123" in shown
    fetched = re.findall(r"(?:src|href|url)\s*[=(]\s*['\"]?(?!#)([^'\")>\s]+)", shown)
    assert [address for address in fetched if not address.startswith("#")] == []


@pytest.mark.parametrize(
    ("lift", "sentence"),
    [
        (-0.1, "The ranker beats each baseline beyond chance."),
        (-0.04, "NOT better than: ranker without real-time features."),
    ],
)
def test_a_page_says_which_baselines_are_not_beaten(lift: float, sentence: str) -> None:
    assert sentence in page(evaluation(lift), "a" * 64)


def test_simulated_behaviour_is_said_to_be_simulated_and_observed_is_not() -> None:
    assert SIMULATED in page(evaluation(), "a" * 64)
    assert SIMULATED not in page(evaluation(data="observed"), "a" * 64)
