"""Processes a batch of prediction requests; the same code in the worker and in Lambda.

Of several requests of one user and kind only the newest is processed. Each one is read, ranked and stored, and pushed if
its trigger asks for that. A failed request alone returns to the queue; one that keeps failing goes to the dead-letter
queue. A request that met an outage, or the end of its release, is put off: it returns without counting as failed. One of
a later message version returns to the queue for a process that knows that version.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from inference.live.loaded_release import LoadedRelease
from inference.predictions.predict import ALIKE, Guard, Prediction, PredictionInput, PredictionTask, Source, predict_all
from inference.predictions.stored_recommendations import Recommendations, StoreResult
from inference.worker.push_consent import REFRESH as CONSENT_REFRESH
from stillpoint.clock import FUTURE_TOLERANCE, Clock, to_micros
from stillpoint.errors import StillpointError
from stillpoint.events.types import EventType
from stillpoint.experiments import Experiment
from stillpoint.messages import (
    NEWEST_VERSION,
    Channel,
    Kind,
    PredictionRequest,
    Push,
    StoredRecommendation,
    later_version,
)
from stillpoint.outages import outage

log = logging.getLogger(__name__)

PUSH_LIFE = timedelta(minutes=30)
_CHANNELS = {
    EventType.SEARCH: (Channel.MODAL, "you searched for sleep"),
    EventType.BIOMETRIC: (Channel.MODAL, "you are on the move"),
    EventType.CONTENT_COMPLETE: (Channel.PUSH, "you finished a session"),
}
"""The channel of a push and the reason that the user reads, by the type of the triggering event. Recommendations for other
event types are stored, and nothing is pushed."""

SendPush = Callable[[Push], None]
"""Puts one push on the push queue, or raises."""

Moment = tuple[str, int]
"""A user id and a time in microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One received message: how often it was received so far, and when it was sent if the queue reports that. `handle` is the
    queue's own receipt where ours is another, as in a Lambda."""

    receipt: str
    body: str
    receives: int = 1
    sent: datetime | None = None
    handle: str | None = None


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """A request, its prediction, and the time at which each step ended."""

    request: PredictionRequest
    prediction: Prediction
    sent: datetime
    began: datetime
    read: datetime
    ranked: datetime
    stored: datetime


@dataclass(slots=True)
class JobReport:
    """The outcome of a batch. `failed`, `put_off` and `left` (of a later message version) map receipts to reasons; all
    other messages are done."""

    done: int = 0
    erased: int = 0
    coalesced: int = 0
    pushed: int = 0
    fallbacks: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    put_off: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    outcomes: list[JobOutcome] = field(default_factory=list)

    @property
    def not_done(self) -> dict[str, str]:
        """The receipts that must return to the queue, with the reasons."""
        return self.failed | self.put_off | self.left

    @property
    def waiting(self) -> dict[str, str]:
        """The receipts that must return to the queue without counting as failed, with the reasons."""
        return self.put_off | self.left

    @property
    def predictions(self) -> list[Prediction]:
        return [one.prediction for one in self.outcomes]


@dataclass(frozen=True, slots=True)
class _Job:
    message: QueuedMessage
    request: PredictionRequest

    @property
    def receipt(self) -> str:
        return self.message.receipt

    def sent(self, began: datetime) -> datetime:
        """Return when the message was put on the queue, clamped between `enqueued_at` and `began` if clocks disagree."""
        return max(self.request.enqueued_at, min(self.message.sent or self.request.enqueued_at, began))

    @property
    def happened(self) -> Moment:
        return self.request.user_id, to_micros(self.request.event_timestamp)


class ReleaseEnded(StillpointError):
    """Another generation went live while a request was ranked; it is ranked again under that generation."""


class Jobs:
    """Processes requests under the release that it is given. Clients are built by the entry point."""

    def __init__(
        self,
        recommendations: Recommendations,
        *,
        send_push: SendPush,
        may_receive: Callable[[str], bool],
        clock: Clock,
        guard: Guard | None = None,
        experiment: Experiment = ALIKE,
        still_live: Callable[[LoadedRelease], bool] = lambda loaded: True,
        erased: Callable[[Sequence[Moment]], Sequence[bool]] = lambda moments: [False] * len(moments),
    ) -> None:
        """`erased` returns, for each user and time, whether what happened to the user then has been erased."""
        self._recommendations = recommendations
        self._send_push = send_push
        self._may_receive = may_receive
        self._clock = clock
        self._guard = guard or Guard()
        self._experiment = experiment
        self._still_live = still_live
        self._erased = erased

    def run(self, loaded: LoadedRelease, messages: Sequence[QueuedMessage]) -> JobReport:
        """Process a batch with one read, one model call per kind and one write. If that fails, each request is tried alone."""
        report = JobReport()
        jobs: list[_Job] = []
        for message in messages:
            try:
                job = _Job(message, PredictionRequest.model_validate_json(message.body))
            except ValueError as error:
                later = later_version(message.body)
                if later is None:
                    report.failed[message.receipt] = (
                        f"not a prediction request of version {NEWEST_VERSION}: {_first(error)}"
                    )
                else:
                    report.left[message.receipt] = (
                        f"a prediction request of version {later[0]}; this process knows {NEWEST_VERSION} and leaves it to a later one"
                    )
                continue
            ahead = _future_time(job.request, self._clock())
            if ahead is None:
                jobs.append(job)
            else:
                report.failed[message.receipt] = ahead
        newest = [job for job in jobs if _is_newest(job.request, (other.request for other in jobs))]
        report.coalesced = len(jobs) - len(newest)
        if newest:
            self._work(loaded, newest, report)
        return report

    def _work(self, loaded: LoadedRelease, jobs: Sequence[_Job], report: JobReport) -> None:
        try:
            made = self._make(loaded, jobs, report)
        except ReleaseEnded as ended:
            report.put_off |= {job.receipt: str(ended) for job in jobs}
        except Exception as error:
            away = outage(error)
            if away is not None:
                report.put_off |= {job.receipt: str(away) for job in jobs}
            elif len(jobs) > 1:
                for job in jobs:
                    self._work(loaded, [job], report)
            elif isinstance(error, StillpointError):
                report.failed[jobs[0].receipt] = str(error)
            else:
                log.exception("a prediction request failed")
                report.failed[jobs[0].receipt] = f"{type(error).__name__}: {error}"
        else:
            for job, one in made:
                self._finish(job, one, report)

    def _make(self, loaded: LoadedRelease, jobs: Sequence[_Job], report: JobReport) -> list[tuple[_Job, JobOutcome]]:
        """Read, rank and store. Idempotent; the report changes only when all of it has succeeded."""
        began = self._clock()
        erased = self._erased([job.happened for job in jobs])
        wanted = [job for job, gone in zip(jobs, erased, strict=True) if not gone]
        if not wanted:
            report.erased += len(jobs)
            return []
        users = list(dict.fromkeys(job.request.user_id for job in wanted))
        columns = loaded.reader.read(loaded.users.names, {"user_id": users}, now_us=to_micros(began))
        known = dict(zip(users, loaded.users.decode(columns), strict=True))
        finished = dict(zip(users, self._recommendations.finished(users), strict=True))
        read = self._clock()
        cases = [
            PredictionInput(_to_task(one.request), known[one.request.user_id], finished[one.request.user_id])
            for one in wanted
        ]
        predictions = predict_all(loaded, cases, at=began, guard=self._guard, experiment=self._experiment)
        ranked = self._clock()
        if not self._still_live(loaded):
            raise _release_ended(loaded)
        lists = [to_stored(one) for one in predictions if one.items]
        if StoreResult.SUPERSEDED in self._recommendations.put_all(lists):
            raise _release_ended(loaded)
        if not self._still_live(loaded):  # the release ended meanwhile: nobody may find what was just stored
            self._recommendations.take_back(lists)
            raise _release_ended(loaded)
        erased = self._erased([job.happened for job in wanted])
        written = self._clock()
        kept = []
        for job, one, gone in zip(wanted, predictions, erased, strict=True):
            if gone:  # erased while we ranked: delete what was just stored
                self._recommendations.forget(job.request.user_id, job.request.kind, one.release)
            else:
                kept.append((job, JobOutcome(job.request, one, job.sent(began), began, read, ranked, written)))
        report.erased += len(jobs) - len(kept)
        return kept

    def _finish(self, job: _Job, outcome: JobOutcome, report: JobReport) -> None:
        """Push a `next` recommendation made by the model, and count the outcome. If the push fails, the message returns."""
        report.outcomes.append(outcome)
        prediction = outcome.prediction
        report.fallbacks += prediction.source is Source.FALLBACK
        if job.request.kind is Kind.NEXT and prediction.source is not Source.FALLBACK and prediction.items:
            try:
                report.pushed += self._push(prediction, job.request)
            except Exception as error:  # noqa: BLE001  a push queue's failure must not undo the other requests
                away = outage(error)
                why = f"stored, but the push could not be sent: {away or f'{type(error).__name__}: {error}'}"
                (report.failed if away is None else report.put_off)[job.receipt] = why
                return
        report.done += 1

    def _push(self, prediction: Prediction, request: PredictionRequest) -> bool:
        """Push the best item, unless the request is too old, at most once per user and half hour. Return whether it was
        sent; a failed send does not use up the half hour."""
        push = _to_push(prediction, request)
        if push is None or push.expires_at <= prediction.at:
            return False  # the request waited too long, for example before a redrive
        (erased,) = self._erased([(request.user_id, to_micros(prediction.at - CONSENT_REFRESH))])
        if erased:
            return False  # the cached opt-in is older than the erasure
        if not self._may_receive(request.user_id) or not self._recommendations.may_push(request.user_id, push.push_id):
            return False
        try:
            self._send_push(push)
        except BaseException:
            self._recommendations.forget_push(request.user_id, push.push_id)
            raise
        return True


def _release_ended(loaded: LoadedRelease) -> ReleaseEnded:
    return ReleaseEnded(f"release {loaded.id} is no longer live; the request is done again under its successor")


def _to_task(request: PredictionRequest) -> PredictionTask:
    return PredictionTask(
        request.request_id, request.user_id, request.kind, request.event_timestamp, request.event_type
    )


def _to_push(prediction: Prediction, request: PredictionRequest) -> Push | None:
    if request.event_type not in _CHANNELS:
        return None
    channel, reason = _CHANNELS[request.event_type]
    return Push(
        push_id=prediction.recommendation_id,
        user_id=request.user_id,
        channel=channel,
        content_id=prediction.items[0].content_id,
        reason=reason,
        recommendation_id=prediction.recommendation_id,
        release=prediction.release,
        created_at=prediction.at,
        expires_at=min(request.event_timestamp, prediction.at) + PUSH_LIFE,
    )


def to_stored(prediction: Prediction) -> StoredRecommendation:
    """Return a prediction as a stored recommendation."""
    return StoredRecommendation(
        recommendation_id=prediction.recommendation_id,
        request_id=prediction.task.request_id,
        user_id=prediction.task.user_id,
        kind=prediction.task.kind,
        release=prediction.release,
        generation=prediction.generation,
        mapping_version=prediction.mapping_version,
        event_timestamp=prediction.task.happened,
        created_at=prediction.at,
        trigger=prediction.task.trigger,
        items=prediction.items,
    )


def _future_time(request: PredictionRequest, now: datetime) -> str | None:
    """Return why a request whose event lies in the future is refused, or None. Stored, it would win over all later ones."""
    for name in ("event_timestamp", "arrived_at", "enqueued_at"):
        moment: datetime = getattr(request, name)
        if moment > now + FUTURE_TOLERANCE:
            return f"{name} is {moment.isoformat()}, which lies in the future; it is {now:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _is_newest(request: PredictionRequest, others: Iterable[PredictionRequest]) -> bool:
    own = (request.event_timestamp, request.request_id)
    same = (other for other in others if (other.user_id, other.kind) == (request.user_id, request.kind))
    return all((other.event_timestamp, other.request_id) <= own for other in same)


def _first(error: ValueError) -> str:
    problems: Any = getattr(error, "errors", None)
    if problems is None:
        return str(error)
    first = problems()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}"
