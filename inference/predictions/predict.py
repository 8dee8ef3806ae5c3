"""Turns a request into a recommendation: the model's list, or a fallback with the reason. The same code in every host.

Fetch → guard → rank → recommendation. The host fetches (synchronously or asynchronously); the steps after that are here,
and use one loaded release from start to end.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from inference.live.loaded_release import LoadedRelease
from inference.ranking.catalogue import ContentTable
from inference.ranking.rank import Ranking, RankRequest, rank, rank_by_popularity
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
    """A prediction to make. `happened` is the event's time, by which stored recommendations are ordered; for a request
    over HTTP it is the time of the request."""

    request_id: str
    user_id: str
    kind: Kind
    happened: datetime
    trigger: EventType | None
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True)
class PredictionInput:
    """A prediction to make, with the user's features and the content ids that they finished lately."""

    task: PredictionTask
    user: UserFeatures
    finished: Collection[str]


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer and what it was made from. `refusal` is why it is a fallback, None if it is not."""

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
    """Keeps a model from predicting from rows of another id mapping. Turned off only to demonstrate what it prevents."""

    def __init__(self, *, on: bool = True) -> None:
        self._on = on

    def refusal(self, user: UserFeatures, mapping_version: int) -> Refusal | None:
        """Return why the model must not predict for this user, or None if it may."""
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
    """Make one recommendation from contents that may be shown at `at`.

    If the guard refuses or the model fails, the answer is popular contents with source `fallback`. Users in an experiment
    arm that orders by popularity get popular contents with source `baseline`.
    """
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
    """Make one recommendation per case, in order, as `predict` does, with one model call per kind."""
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
    """Return each case's ranking, or why the model returned none. If the model refuses the batch, each case is tried alone."""
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
        ranking = rank_by_popularity(
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
    """Return the id of the recommendation that a request gets under a release generation, 32 hexadecimal digits.

    The same arguments always give the same id, so a repeated request names the same recommendation.

    >>> recommendation_id("request-1", "r0001", 1)
    'e3c335b9422a92d26a7d5e9eda4791fc'
    """
    return hashlib.sha256(f"{request_id}\x00{release}\x00{generation}".encode()).hexdigest()[:32]
