"""States that the lake's events call for and Redis does not have are found, and counted by shard.

Whoever deletes keys, or lets Redis drop them, leaves no other trace: an unknown user looks like a new one.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.compute as pc

from ingestion.state_store import StateStore
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.datasets import DateRange
from stillpoint.lake.tables import Lake
from stillpoint.tombstones import Tombstones

MARGIN = timedelta(minutes=1)
"""A state that expires within this is not looked for: Redis has its own clock."""


@dataclass(frozen=True, slots=True)
class Audit:
    """How many states there must be, and how many are missing, by shard."""

    expected: int
    missing: Counter[str]

    def __str__(self) -> str:
        lost = ", ".join(f"{count:,} on {shard}" for shard, count in sorted(self.missing.items()))
        return f"{self.missing.total():,} of {self.expected:,} states are missing: {lost or 'none'}"


def audit(
    lake: Lake, query: str, states: StateStore, *, stream: AppStream, tombstones: Tombstones, now: datetime
) -> Audit:
    """Compare the users whose on-time events the lake has lately with the states in Redis.

    Reads three columns of the lake file by file; memory grows with the users, not with their events.
    """
    since = now + MARGIN - timedelta(microseconds=stream.max_event_age_us) - stream.reach
    newest: dict[str, int] = {}
    rows = (pc.field("event_timestamp") > since) & (pc.field("verdict") == Verdict.ON_TIME.value)
    files = lake.files("events", DateRange(first=since.date()))
    if sum(name.startswith("stream-") for name in lake.writers()) > 1:
        # Another query began anew: this one may not know its users yet, and is asked only for those of its own files.
        files = [file for file in files if f"/stream-{query}-" in file.path]
    for batch in lake.open("events", files).to_batches(columns=["user_id", "event_timestamp"], filter=rows):
        times = batch.column("event_timestamp").cast("int64").to_pylist()
        for user, at in zip(batch.column("user_id").to_pylist(), times, strict=True):
            newest[user] = max(at, newest.get(user, at))
    users = [user for user, at in newest.items() if not tombstones.covers(user, at)]
    return Audit(len(users), Counter(states.absent(users).values()))
