"""Rebuilds the stream's states from the lake after Redis has lost them.

The committed events, taken in the order of their arrival, lead to the states that were lost.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.keyed.exchange import key_name
from ingestion.state_store import Change, StateStore, instance_of
from ingestion.view_states import ViewStates
from stillpoint.app.events import Arrival
from stillpoint.errors import StackUnavailable
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.definition import Key
from stillpoint.features.streamed.state import UserState
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.datasets import DateRange
from stillpoint.lake.tables import Lake
from stillpoint.tombstones import Tombstones


def needs_rebuild(states: StateStore, last_committed: int | None) -> bool:
    """Return whether states are missing: a shard is behind the lake, or has dropped keys.

    Markers are written before each commit, so a shard behind the lake has lost what it had.
    """
    if last_committed is None:
        return False
    marked = states.marked()
    behind = marked is None or marked < last_committed
    return behind or bool(states.dropped())


def rebuild(
    lake: Lake,
    states: StateStore,
    *,
    stream: AppStream,
    tombstones: Tombstones,
    now: datetime,
    batch: int,
    epoch: int,
) -> int:
    """Write the states of all users and keys with recent events in the lake, as they were after `batch`.

    All of the stream's views are rebuilt, and none is left to join. Return the number of users.

    Raises:
        StatesLost: Redis restarted, failed over or dropped keys meanwhile; rebuild again.
    """
    found = states.shards()
    noted = states.views() or ViewStates()
    views = ViewStates(active=stream.sections, stale=noted.only(()).stale)
    since = now - 2 * timedelta(microseconds=stream.max_event_age_us) - stream.reach
    table = lake.read("events", DateRange(first=since.date()), where=pc.field("arrived_at") >= since)
    # Late events and duplicates are included: they are judged as before, and their arrival counts for the state.
    judged = table.schema.get_field_index("verdict")
    table = table.set_column(judged, "verdict", pa.array([Verdict.ON_TIME.value] * table.num_rows, pa.string()))
    events = sorted(stream.recorded.on_time(table), key=attrgetter("user_id", "arrived_us"))
    changes: dict[str, Change] = {}
    keyed: dict[str, dict[Key, list[Arrival]]] = {}
    for user, own in groupby(events, key=attrgetter("user_id")):
        outcome = stream.advance(UserState(), list(own), erased_until_us=tombstones.until_us(user))
        packed = outcome.state.to_bytes()
        changes[user] = Change(packed, packed, stream.expires_us(outcome.state))
        for view, groups in outcome.keyed.items():
            for key, arrivals in groups.items():
                keyed.setdefault(view, {}).setdefault(key, []).extend(arrivals)
    states.save(changes, batch=batch, epoch=epoch)
    for view, found_keys in keyed.items():
        of_keys = {key_name(key): _of_key(stream, view, key, own_keys) for key, own_keys in found_keys.items()}
        states.save(of_keys, batch=batch, epoch=epoch, space=views.space(stream.engine.of_others[view].section))
    states.require(instance_of(found))
    states.note_views(views)
    states.mark(batch)
    try:
        states.require(instance_of(found))
    except StackUnavailable:
        states.unmark()  # what was promoted meanwhile may have the markers and not the states
        raise
    states.accept_dropped(found)
    return len(changes)


def _of_key(stream: AppStream, view: str, key: Key, arrivals: list[Arrival]) -> Change:
    arrivals.sort(key=lambda one: (one.arrived_us, one.key))
    outcome = stream.engine.advance_key(view, key, b"", arrivals)
    return Change(outcome.state, outcome.state, outcome.until_us)


def last_committed(lake: Lake, writer: str) -> int | None:
    """Return the newest batch that a query has committed, or None."""
    newest = max(lake.objects.list(f"commits/{writer}/"), default=None)
    return None if newest is None else int(newest.rpartition("/")[2].removesuffix(".json"))


def verdict_sums(lake: Lake, writer: str) -> Mapping[str, int]:
    """Return how many records a query gave each verdict, by its commits."""
    sums: dict[str, int] = {}
    for commit in lake.commits(writer):
        for name, value in commit.properties.items():
            if name.startswith("verdict_") and isinstance(value, int):
                sums[name.removeprefix("verdict_")] = sums.get(name.removeprefix("verdict_"), 0) + value
    return sums
