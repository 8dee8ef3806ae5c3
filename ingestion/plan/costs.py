"""Measures what views cost, on a sample of the lake: state, rows, processor time; and estimates how long their past takes."""

import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.joining.past import KeyState, advance_past
from stillpoint.app.events import Arrival
from stillpoint.app.load import App
from stillpoint.clock import DAY
from stillpoint.encoder import Encoder
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.engine import Runner, section_name
from stillpoint.features.streamed.reach import reach
from stillpoint.features.streamed.state import Section
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.datasets import DateRange
from stillpoint.lake.tables import Lake

SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class ViewCost:
    """One view's cost, measured on `events` events of a sample. `of` names what has a state: a user, or the view's entity."""

    view: str
    of: str
    events: int
    state_bytes: float
    rows_per_1000: float
    seconds_per_1000: float


@dataclass(frozen=True, slots=True)
class PastCost:
    """How far the lake reaches back, and about how long the past of the measured views takes on one core."""

    events: int
    first: date | None
    last: date | None
    sampled_events: int
    one_user_in: int
    seconds: float


class _Counted:
    """A join's memory that is looked at."""

    def __init__(self) -> None:
        self.of_users: dict[str, Section] = {}
        self.of_keys: dict[Key, bytes] = {}

    def sections(self, view: Runner, users: Sequence[str]) -> dict[str, Section]:
        return {user: self.of_users[user] for user in users if user in self.of_users}

    def save_sections(self, view: Runner, sections: Mapping[str, Section]) -> None:
        self.of_users.update(sections)

    def keys(self, view: Runner, keys: Sequence[Key]) -> dict[Key, bytes]:
        return {key: self.of_keys[key] for key in keys if key in self.of_keys}

    def save_keys(self, view: Runner, states: Mapping[Key, KeyState]) -> None:
        self.of_keys.update({key: one.data for key, one in states.items()})

    @property
    def bytes_each(self) -> float:
        found = [*(len(one.data) for one in self.of_users.values()), *map(len, self.of_keys.values())]
        return sum(found) / len(found) if found else 0.0


def costs(
    lake: Lake, app: App, views: Collection[str], *, encoder: Encoder, max_event_age_us: int, sample: int = SAMPLE
) -> tuple[list[ViewCost], PastCost]:
    """Measure views one by one on the newest events of some users, as many as make about `sample` events.

    The sample reaches back for the views' longest window, so that their states are as large as they become.
    """
    whole = lake.files("events")
    last = max((file.date for file in whole), default=None)
    chosen = [view for view in app.views if view.name in views]
    if last is None or not chosen:
        return [], PastCost(0, None, None, 0, 1, 0.0)
    recent = lake.files("events", DateRange(last - reach(chosen) - timedelta(days=1)))
    one_in = max(1, sum(file.rows for file in recent) // sample)
    streams = {
        view.name: AppStream(app, encoder=encoder, max_event_age_us=max_event_age_us, sections=[section_name(view)])
        for view in chosen
    }
    started = time.process_time()
    events = _sampled(lake, recent, one_in, next(iter(streams.values())))
    reading = time.process_time() - started
    found = [_measured(view.entity.name, streams[view.name], events) for view in chosen]
    share = sum(file.rows for file in whole) / max(1, sum(file.rows for file in recent))
    computing = sum(one.seconds_per_1000 * one.events / 1000 for one in found) * one_in
    past = PastCost(
        events=sum(file.rows for file in whole),
        first=min(file.date for file in whole),
        last=last,
        sampled_events=len(events),
        one_user_in=one_in,
        seconds=share * (reading + computing),
    )
    return found, past


def _sampled(lake: Lake, files: Sequence[CommittedFile], one_in: int, stream: AppStream) -> list[Arrival]:
    parts = []
    for batch in lake.open("events", files).to_batches(filter=pc.field("verdict") == Verdict.ON_TIME.value):
        users = batch.column("user_id")
        mine = [one for one in pc.unique(users).to_pylist() if zlib.crc32(one.encode()) % one_in == 0]
        parts.append(batch.filter(pc.is_in(users, pa.array(mine, pa.string()))))
    return stream.recorded.on_time(pa.Table.from_batches(parts)) if parts else []


def _measured(entity: str, stream: AppStream, events: Sequence[Arrival]) -> ViewCost:
    (runner,) = (*stream.engine.of_users, *stream.engine.of_others.values())
    own = [one for one in events if type(one.event) in runner.events]
    memory, rows = _Counted(), 0
    started = time.process_time()
    for day in sorted({one.event_us // DAY for one in own}):
        of_day = [one for one in own if one.event_us // DAY == day]
        computed = advance_past(stream.engine, memory, of_day, older=_none, before_us=day * DAY)
        rows += sum(map(len, computed.values()))
    seconds = time.process_time() - started
    per = 1000 / max(1, len(own))
    return ViewCost(
        view=runner.name,
        of="user" if runner.of_user else entity,
        events=len(own),
        state_bytes=memory.bytes_each,
        rows_per_1000=rows * per,
        seconds_per_1000=seconds * per,
    )


def _none(view: str, key: Any, span: tuple[int, int]) -> list[Row]:
    return []
