"""The streamed views' rows of recorded on-time events, for backfill and parity.

The same definitions as the stream's, over whole histories at once.
"""

from collections.abc import Iterable
from itertools import groupby

from stillpoint.encoder import Encoder
from stillpoint.events.parsing import AppEvent
from stillpoint.features.columns import Row
from stillpoint.features.declarations import BIOMETRICS, SEARCH_EMBEDDINGS, SESSION_BOUNCE_RATES, View
from stillpoint.features.streamed import biometrics, searches, sessions
from stillpoint.features.verdicts import event_key


def history_rows(view: View | str, events: Iterable[AppEvent], *, encoder: Encoder | None = None) -> list[Row]:
    """Return the newest rows of a streamed view, ordered by user and time.

    `events` are on-time events of any users in any order, with the `arrived_us` of the lake, each once. Those of other
    types than the view's are ignored. Only `search_embeddings` needs the encoder.
    """
    name = view if isinstance(view, str) else view.name
    if name not in _ROWS_OF:
        raise KeyError(f"view {name!r} is not streamed; streamed are {', '.join(_ROWS_OF)}")
    declared, rows_of = _ROWS_OF[name]
    chosen = sorted((event for event in events if event.type in declared.event_types), key=lambda one: one.user_id)
    found: list[Row] = []
    for user_id, own in groupby(chosen, key=lambda one: one.user_id):
        found += rows_of(user_id, list(own), encoder)
    return found


def _sessions(user_id: str, events: list[AppEvent], _: Encoder | None) -> list[Row]:
    return sessions.walk(user_id, None, sorted(map(sessions.tap, events))).rows


def _searches(user_id: str, events: list[AppEvent], encoder: Encoder | None) -> list[Row]:
    if encoder is None:
        raise ValueError(f"rows of {SEARCH_EMBEDDINGS.name} need an encoder, and none was given")
    vectors = encoder.encode([event.query or "" for event in events])
    found = [
        searches.Search(event.event_us, event_key(event.event_id), event.arrived_us, searches.embedding_bytes(vector))
        for event, vector in zip(events, vectors, strict=True)
    ]
    return searches.rows(user_id, sorted(found))


def _biometrics(user_id: str, events: list[AppEvent], _: Encoder | None) -> list[Row]:
    return biometrics.rows(user_id, sorted(map(biometrics.sample, events), key=lambda one: one[:2]))


_ROWS_OF = {
    SESSION_BOUNCE_RATES.name: (SESSION_BOUNCE_RATES, _sessions),
    SEARCH_EMBEDDINGS.name: (SEARCH_EMBEDDINGS, _searches),
    BIOMETRICS.name: (BIOMETRICS, _biometrics),
}
