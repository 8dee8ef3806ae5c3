"""Push consent: only users whose newest row in the lake's `users/` opts in may be pushed to.

The ids of those users lie sorted in a temporary file, and an answer reads a few of its pages: memory does not grow with
the number of users. The file is made anew when users were written.
"""

import tempfile
import threading
from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from stillpoint.clock import Clock
from stillpoint.events.types import USER_COLUMNS
from stillpoint.lake.sorted_rows import BUDGET, SortedRows, last_of_each
from stillpoint.lake.streaming import stream_rows
from stillpoint.lake.tables import Lake

REFRESH = timedelta(minutes=5)

_COLUMNS = pa.schema([USER_COLUMNS.field(name) for name in ("user_id", "updated_at", "push_opt_in")])
_IDS = pa.schema([USER_COLUMNS.field("user_id")])
_BATCH = 16_384


class PushConsent:
    """Returns whether a user opted in. The lake is asked for new rows of users every `REFRESH`."""

    def __init__(self, lake: Lake, clock: Clock, *, budget: int = BUDGET) -> None:
        self._lake = lake
        self._clock = clock
        self._budget = budget
        self._known: OptedIn | None = None
        self._read_at: datetime | None = None
        self._lock = threading.Lock()

    def __call__(self, user_id: str) -> bool:
        with self._lock:
            now = self._clock()
            if self._known is None or self._read_at is None or now - self._read_at >= REFRESH:
                lake = self._lake.frozen()
                if self._known is None or self._known.files != _paths(lake):
                    self._known = opted_in(lake, budget=self._budget)
                self._read_at = now
            return user_id in self._known


class OptedIn:
    """The users who opted in, in a file that is deleted with this object. `files` are the lake's files it was made from."""

    def __init__(self, folder: "tempfile.TemporaryDirectory[str]", files: tuple[str, ...]) -> None:
        self.files = files
        self._folder = folder
        self._batches = pa.ipc.open_file(pa.memory_map(str(Path(folder.name) / _FILE)))
        self._firsts = [
            self._batches.get_batch(n).column(0)[0].as_py() for n in range(self._batches.num_record_batches)
        ]

    def __contains__(self, user_id: object) -> bool:
        if not isinstance(user_id, str):
            return False
        place = bisect_right(self._firsts, user_id) - 1
        if place < 0:
            return False
        ids = self._batches.get_batch(place).column(0)
        row = bisect_left(range(len(ids)), user_id, key=lambda one: ids[one].as_py())
        return row < len(ids) and ids[row].as_py() == user_id


_FILE = "opted-in.arrow"


def opted_in(lake: Lake, *, budget: int = BUDGET) -> OptedIn:
    """Return the users whose newest row opts in to pushes."""
    folder = tempfile.TemporaryDirectory(prefix="stillpoint-consent-")
    newest = last_of_each(["user_id"])
    with (
        SortedRows(_COLUMNS, ["user_id"], order=["updated_at"], reduce=newest, budget=budget) as rows,
        pa.ipc.new_file(str(Path(folder.name) / _FILE), _IDS) as writer,
    ):
        for table in stream_rows(lake, lake.files("users"), _COLUMNS):
            rows.add(table)
        for table in rows.ranges():
            allowed = table.filter(table["push_opt_in"]).select(_IDS.names).cast(_IDS).combine_chunks()
            if allowed.num_rows:
                writer.write_table(allowed, max_chunksize=_BATCH)
    return OptedIn(folder, _paths(lake))


def _paths(lake: Lake) -> tuple[str, ...]:
    return tuple(file.path for file in lake.files("users"))
