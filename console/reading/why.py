"""Why a user's list is as it is: what each feature added, and what the list would have been without the last search."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.compute as pc

from console.sources import Sources
from inference.live.loaded_release import LoadedRelease
from inference.predictions.counterfactual import ranked, with_row
from inference.predictions.explain import contributions, logged_user
from inference.predictions.served_lookup import ServedLookup
from inference.predictions.stored_recommendations import Recommendations
from inference.ranking.user_features import UserFeatures, guard
from stillpoint.app.events import Arrival
from stillpoint.clock import from_micros, to_micros
from stillpoint.events.recorded import RecordedEvents
from stillpoint.events.types import EventType
from stillpoint.features.streamed.history import AppHistory
from stillpoint.lake.datasets import DateRange
from stillpoint.messages import Item, Kind
from stillpoint.releases.parts import load_model
from validation.parity import newest_of, recomputed

EXPLAINED = 3
LIMIT = 10
SEARCHES = "search_embeddings"
SEARCH_WINDOW = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class WhyItem:
    """An item of the list and the features that moved its score most, in log-odds."""

    item: Item
    pushes: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Why:
    """A list, explained. `made` is when it was served, None for one that is made now since nothing is stored.

    `search` is the last search before it, `without` the list without it; None where there was no search, or `refusal`
    says why the model may not be asked.
    """

    kind: Kind
    made: datetime | None
    recommendation_id: str | None
    items: tuple[Item, ...]
    explained: tuple[WhyItem, ...]
    search: str | None
    searched_at: datetime | None
    without: tuple[Item, ...] | None
    refusal: str | None


def why(
    sources: Sources, loaded: LoadedRelease, history: AppHistory, lookup: ServedLookup, user_id: str, kind: Kind
) -> Why:
    """Explain the stored list of a kind from its row of the served log; without one, the list as it would be made now."""
    store = Recommendations(sources.serving)
    (stored,) = store.get(user_id, [kind], loaded.id)
    finished = store.finished([user_id])[0]
    served = None if stored is None else lookup.find(stored.recommendation_id)
    if served is not None and served["source"] == "model":
        user, at, recommendation_id = (
            logged_user(served, loaded.contents.features),
            served["served_at"],
            served["recommendation_id"],
        )
    else:
        served, at, recommendation_id = None, sources.clock(), None
        columns = loaded.reader.read(loaded.users.names, {"user_id": [user_id]}, now_us=to_micros(at))
        user = loaded.users.decode_one(columns)
        refusal = guard(user, loaded.release.mapping_version)
        if refusal is not None:
            return Why(kind, None, None, (), (), None, None, None, f"The guard refuses to predict: {refusal.value}.")
    scorer, contents = loaded.scorers[kind], loaded.contents.offered_at(to_micros(at))
    items = ranked(scorer, contents, user, kind, finished=finished, limit=LIMIT)
    if served is not None and stored is not None:
        items = stored.items[:LIMIT]
    bundle = load_model(sources.lake.objects, loaded.release.routes[kind])
    shown = [one.content_id for one in items[:EXPLAINED]]
    added = contributions(user, shown, bundle, loaded.contents)
    searches = _searches(sources, history, user_id, at)
    without = None
    if searches:
        without = ranked(
            scorer, contents, _without_last(user, searches, history, at), kind, finished=finished, limit=len(items)
        )
    return Why(
        kind=kind,
        made=None if served is None else at,
        recommendation_id=recommendation_id,
        items=tuple(items),
        explained=tuple(
            WhyItem(one, tuple(added[one.content_id].items())) for one in items[:EXPLAINED] if one.content_id in added
        ),
        search=str(getattr(searches[-1].event, "query", "")) if searches else None,
        searched_at=from_micros(searches[-1].event_us) if searches else None,
        without=without,
        refusal=None,
    )


def _searches(sources: Sources, history: AppHistory, user_id: str, at: datetime) -> list[Arrival]:
    """Return the user's on-time searches that had arrived by `at` and still count, in the order of their time."""
    days = DateRange(first=(at - SEARCH_WINDOW - timedelta(days=1)).date(), last=at.date())
    own = (pc.field("user_id") == user_id) & (pc.field("type") == EventType.SEARCH.value)
    found = RecordedEvents(history.app.events).on_time(sources.lake.read("events", days, where=own))
    oldest, newest = to_micros(at - SEARCH_WINDOW), to_micros(at)
    return sorted(
        (one for one in found if one.arrived_us <= newest and one.event_us > oldest), key=lambda one: one.event_us
    )


def _without_last(user: UserFeatures, searches: Sequence[Arrival], history: AppHistory, at: datetime) -> UserFeatures:
    view = history.app.features.view(SEARCHES)
    row = newest_of(recomputed(view, searches[:-1], at, history))
    age = 0.0 if row is None else (at - row.event_time).total_seconds()
    return with_row(user, view, None if row is None else row.values, age_seconds=age)
