"""How is a batch of prediction requests worked off, alike in the worker and in Lambda?

Requests of one user and kind are made one: the newest. Each is read, ranked, stored, and pushed where its trigger asks for
it. A request that cannot be done now is given back alone; one that can never be done goes the way of the dead letters.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from inference.loaded_release import LoadedRelease
from inference.opt_in import REFRESH as OPT_IN_REFRESH
from inference.person import READ_FEATURES, person
from inference.predict import Ask, Guard, Prediction, Source, predict
from inference.recommendations import Recommendations
from stillpoint.clock import Clock, to_micros
from stillpoint.errors import StackUnavailable, StillpointError
from stillpoint.events import EventType
from stillpoint.messages import Channel, Kind, PredictionRequest, Push, StoredRecommendation

log = logging.getLogger(__name__)

PUSH_LIFE = timedelta(minutes=30)
_CHANNELS = {
    EventType.SEARCH: (Channel.MODAL, "you searched for sleep"),
    EventType.BIOMETRIC: (Channel.MODAL, "you are on the move"),
    EventType.CONTENT_COMPLETE: (Channel.PUSH, "you finished a session"),
}

SendPush = Callable[[Push], None]
"""Puts one push on the push queue, or raises."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One message as it came from the queue: for which time, and within which trace (W3C `traceparent`) if it says so."""

    receipt: str
    body: str
    receives: int = 1
    trace: str | None = None


@dataclass(slots=True)
class JobReport:
    """What became of a batch: `failed` receipts go back to the queue, the others are done. Of the failed, `unavailable` met
    a server that does not answer, and may well be done a little later."""

    done: int = 0
    erased: int = 0
    coalesced: int = 0
    pushed: int = 0
    fallbacks: int = 0
    unavailable: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    predictions: list[Prediction] = field(default_factory=list)


class Jobs:
    """Works requests off under the release that it is given. Clients are built by the entry point."""

    def __init__(
        self,
        recommendations: Recommendations,
        *,
        send_push: SendPush,
        may_receive: Callable[[str], bool],
        clock: Clock,
        guard: Guard | None = None,
        still_live: Callable[[LoadedRelease], bool] = lambda loaded: True,
        is_erased: Callable[[str, int], bool] = lambda user_id, at_us: False,
    ) -> None:
        """`is_erased` says whether what happened to a user at a moment (microseconds) has been erased."""
        self._recommendations = recommendations
        self._send_push = send_push
        self._may_receive = may_receive
        self._clock = clock
        self._guard = guard or Guard()
        self._still_live = still_live
        self._is_erased = is_erased

    def run(self, loaded: LoadedRelease, messages: Sequence[Delivered]) -> JobReport:
        """Work a batch off."""
        report = JobReport()
        requests: list[tuple[Delivered, PredictionRequest]] = []
        for message in messages:
            try:
                requests.append((message, PredictionRequest.model_validate_json(message.body)))
            except ValueError as error:
                report.failed[message.receipt] = f"not a prediction request of version 1: {_first(error)}"
        for message, request in requests:
            if not _is_newest(request, (other for _, other in requests)):
                report.coalesced += 1
                continue
            try:
                self._one(loaded, request, report)
            except StillpointError as error:
                report.failed[message.receipt] = str(error)
                report.unavailable += isinstance(error, StackUnavailable)
            except Exception as error:
                log.exception("a prediction request failed")
                report.failed[message.receipt] = f"{type(error).__name__}: {error}"
        return report

    def _one(self, loaded: LoadedRelease, request: PredictionRequest, report: JobReport) -> None:
        now = self._clock()
        happened_us = to_micros(request.event_timestamp)
        if self._is_erased(request.user_id, happened_us):
            report.erased += 1
            return
        columns = loaded.reader.read(list(READ_FEATURES), {"user_id": [request.user_id]}, now_us=to_micros(now))
        ask = Ask(request.request_id, request.user_id, request.kind, request.event_timestamp, request.event_type)
        finished = self._recommendations.finished(request.user_id)
        made = predict(loaded, ask, person(columns), finished, at=now, guard=self._guard)
        if not self._still_live(loaded):
            raise StillpointError(
                f"release {loaded.id} is no longer live; the request is done again under its successor"
            )
        if made.items:
            self._recommendations.put(stored(made))
        if self._is_erased(request.user_id, happened_us):  # meanwhile: what was just stored must go too
            self._recommendations.forget(request.user_id, request.kind, made.release)
            report.erased += 1
            return
        report.predictions.append(made)
        report.fallbacks += made.source is Source.FALLBACK
        if request.kind is Kind.NEXT and made.source is Source.MODEL and made.items:
            report.pushed += self._push(made, request)
        report.done += 1

    def _push(self, made: Prediction, request: PredictionRequest) -> bool:
        """Push the best item, at most once per user and half hour. A send that fails gives the half hour back."""
        channel, reason = _CHANNELS[request.event_type]
        push = Push(
            push_id=made.recommendation_id,
            user_id=request.user_id,
            channel=channel,
            content_id=made.items[0].content_id,
            reason=reason,
            recommendation_id=made.recommendation_id,
            release=made.release,
            created_at=made.at,
            expires_at=made.at + PUSH_LIFE,
        )
        if self._is_erased(request.user_id, to_micros(made.at - OPT_IN_REFRESH)):
            return False  # whoever came back has not opted in again, whatever is still remembered
        if not self._may_receive(request.user_id) or not self._recommendations.may_push(request.user_id, push.push_id):
            return False
        try:
            self._send_push(push)
        except BaseException:
            self._recommendations.forget_push(request.user_id, push.push_id)
            raise
        return True


def stored(made: Prediction) -> StoredRecommendation:
    """Return a prediction as it is kept for being pulled."""
    return StoredRecommendation(
        recommendation_id=made.recommendation_id,
        request_id=made.ask.request_id,
        user_id=made.ask.user_id,
        kind=made.ask.kind,
        release=made.release,
        generation=made.generation,
        mapping_version=made.mapping_version,
        event_timestamp=made.ask.happened,
        created_at=made.at,
        trigger=made.ask.trigger,
        items=made.items,
    )


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
