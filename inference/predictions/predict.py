"""Turns a request into a recommendation, alike in every host: the model's list, or a fallback that says why.

Fetch → guard → rank → recommendation. Fetching is the host's (synchronous or asynchronous); all that follows is here, and
uses one loaded release from start to end.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from inference.live.loaded_release import LoadedRelease
from inference.ranking.catalogue import ContentTable
from inference.ranking.rank import Ranking, RankRequest, popular, rank
from inference.ranking.user_features import Refusal, UserFeatures, guard
from stillpoint.clock import to_micros
from stillpoint.errors import ModelRefused, StackUnavailable
from stillpoint.events.types import EventType
from stillpoint.experiments import Experiment, Ordering
from stillpoint.messages import Item, Kind

DEFAULT_LIMIT = 10


class Source(StrEnum):
    """Where an answer's items come from."""

    MODEL = "model"
    BASELINE = "baseline"
    STORED = "stored"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class PredictionTask:
    """A prediction to make. `happened` orders what is stored; for a request over HTTP it is the request's time."""

    request_id: str
    user_id: str
    kind: Kind
    happened: datetime
    trigger: EventType | None
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True)
class PredictionInput:
    """A prediction to make, and what was fetched for it."""

    task: PredictionTask
    user: UserFeatures
    finished: Collection[str]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was answered, from what, and why if it is a fallback."""

    task: PredictionTask
    recommendation_id: str
    release: str
    generation: int
    mapping_version: int
    source: Source
    refusal: str | None
    items: tuple[Item, ...]
    ranking: Ranking
    user: UserFeatures
    at: datetime
    arm: str


class Guard:
    """Keeps a model from predicting from another mapping's rows. There is one reason to turn it off: to show what it prevents."""

    def __init__(self, *, on: bool = True) -> None:
        self._on = on

    def refusal(self, user: UserFeatures, mapping_version: int) -> Refusal | None:
        """Return why the model must not be used for this person."""
        return guard(user, mapping_version) if self._on else None


ALIKE = Experiment()


def predict(
    loaded: LoadedRelease,
    task: PredictionTask,
    user: UserFeatures,
    finished: Collection[str],
    *,
    at: datetime,
    guard: Guard,
    experiment: Experiment = ALIKE,
) -> Prediction:
    """Make one recommendation, of contents that may be shown at `at`. A refusal by the guard or a model that fails gives popular contents, marked as fallback;
    so does an arm of the experiment that orders by popularity, marked as its baseline."""
    (made,) = predict_all(loaded, [PredictionInput(task, user, finished)], at=at, guard=guard, experiment=experiment)
    return made


def predict_all(
    loaded: LoadedRelease,
    cases: Sequence[PredictionInput],
    *,
    at: datetime,
    guard: Guard,
    experiment: Experiment = ALIKE,
) -> list[Prediction]:
    """Make what `predict` makes of each case, in order, with one call of the model per kind."""
    refusals: dict[int, str] = {}
    by_kind: dict[Kind, list[int]] = {}
    for place, case in enumerate(cases):
        refusal = guard.refusal(case.user, loaded.scorers[case.task.kind].mapping_version)
        if refusal is not None:
            refusals[place] = refusal
        elif experiment.arm_of(case.task.user_id).ordering is not Ordering.POPULAR:
            by_kind.setdefault(case.task.kind, []).append(place)
    rankings: dict[int, Ranking] = {}
    contents = loaded.contents.offered_at(to_micros(at))
    for kind, places in by_kind.items():
        outcomes = _ranked(loaded, contents, kind, [cases[place] for place in places])
        for place, outcome in zip(places, outcomes, strict=True):
            if isinstance(outcome, Ranking):
                rankings[place] = outcome
            else:
                refusals[place] = outcome
    return [
        _prediction(loaded, contents, case, rankings.get(place), refusals.get(place), at, experiment)
        for place, case in enumerate(cases)
    ]


def _ranked(
    loaded: LoadedRelease, contents: ContentTable, kind: Kind, cases: Sequence[PredictionInput]
) -> list[Ranking | str]:
    """Return each case's ranking, or why the model gave none. Whom the model refuses does not spoil it for the others."""
    requests = [RankRequest(case.user, case.finished, case.task.limit) for case in cases]
    try:
        return list(rank(loaded.scorers[kind], requests, contents, kind))
    except StackUnavailable as error:
        return [str(error)] * len(cases)
    except ModelRefused as error:
        return (
            [str(error)]
            if len(cases) == 1
            else [one for case in cases for one in _ranked(loaded, contents, kind, [case])]
        )


def _prediction(
    loaded: LoadedRelease,
    contents: ContentTable,
    case: PredictionInput,
    ranking: Ranking | None,
    refusal: str | None,
    at: datetime,
    experiment: Experiment,
) -> Prediction:
    task, user = case.task, case.user
    arm = experiment.arm_of(task.user_id)
    source = Source.BASELINE if arm.ordering is Ordering.POPULAR else Source.MODEL
    if ranking is None:
        ranking = popular(
            contents,
            loaded.scorers[task.kind].popular,
            task.kind,
            subscribed=user.subscribed,
            finished=case.finished,
            limit=task.limit,
        )
    return Prediction(
        task=task,
        recommendation_id=recommendation_id(task.request_id, loaded.id, loaded.generation),
        release=loaded.id,
        generation=loaded.generation,
        mapping_version=loaded.release.mapping_version,
        source=source if refusal is None else Source.FALLBACK,
        refusal=refusal,
        items=ranking.items,
        ranking=ranking,
        user=user,
        at=at,
        arm=arm.name,
    )


def recommendation_id(request_id: str, release: str, generation: int) -> str:
    """Return the id of a request's recommendation under a release; the same for every repetition."""
    return hashlib.sha256(f"{request_id}\x00{release}\x00{generation}".encode()).hexdigest()[:32]


def section(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as the service's JSON."""
    return {
        "recommendation_id": prediction.recommendation_id,
        "source": str(prediction.source),
        "age_seconds": 0.0,
        "release": prediction.release,
        "items": [item.model_dump() for item in prediction.items],
    }
