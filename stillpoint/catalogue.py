"""The catalogue: which contents may be shown, from `published_at` until `until`, unless withdrawn.

The catalogue is append-only: of a content's rows the one updated last counts, and a withdrawal holds until a later row takes
it back. Rows with an update time in the future do not count yet. Withdrawing and restoring add a row, and notify serving
processes to read the catalogue again.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa

from stillpoint.clock import FUTURE_TOLERANCE
from stillpoint.errors import InvalidInput
from stillpoint.events.types import CATALOGUE_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import redis_errors

DATASET = "catalogue"
CHANGE_KEY = "stillpoint:catalogue"
"""Key in `redis_serving` whose value changes with each catalogue change that serving must see at once. If Redis loses it,
serving still reads the catalogue periodically."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRow:
    """One row of the catalogue. `until` None has no end."""

    content_id: str
    title: str
    description: str
    category: str
    duration_seconds: int
    published_at: datetime
    updated_at: datetime
    until: datetime | None
    withdrawn: bool

    def offered_at(self, moment: datetime) -> bool:
        """Say whether the content may be shown at a moment."""
        return not self.withdrawn and self.published_at <= moment and (self.until is None or moment < self.until)


def newest_rows(table: pa.Table, *, until: datetime) -> list[CatalogueRow]:
    """Return each content's newest row among those updated until a moment, ordered by content id.

    `withdrawn` is taken from the newest row in which it is not null, so a feed that leaves the column null does not undo a
    withdrawal. Of two rows with the same update time a withdrawn one counts.
    """
    rows = [row for row in table.select(CATALOGUE_COLUMNS.names).to_pylist() if row["updated_at"] <= until]
    newest: dict[str, CatalogueRow] = {}
    for row in sorted(rows, key=lambda row: (row["updated_at"], bool(row["withdrawn"]))):
        before = newest.get(row["content_id"])
        if row["withdrawn"] is None:
            row["withdrawn"] = before is not None and before.withdrawn
        newest[row["content_id"]] = CatalogueRow(**row)
    return [newest[content_id] for content_id in sorted(newest)]


def read_catalogue(lake: Lake, *, now: datetime) -> list[CatalogueRow]:
    """Return the newest row of each content that the lake's catalogue knows."""
    return newest_rows(lake.read(DATASET), until=now + FUTURE_TOLERANCE)


def withdraw(lake: Lake, content_id: str, *, at: datetime) -> CatalogueRow:
    """Add a row that withdraws a content, and return it. A content that is withdrawn already stays so.

    Raises:
        InvalidInput: the catalogue does not know the content.
    """
    return _say(lake, content_id, withdrawn=True, at=at)


def restore(lake: Lake, content_id: str, *, at: datetime) -> CatalogueRow:
    """Add a row that takes a withdrawal back, and return it.

    Raises:
        InvalidInput: the catalogue does not know the content.
    """
    return _say(lake, content_id, withdrawn=False, at=at)


def find(lake: Lake, content_id: str, *, now: datetime) -> CatalogueRow:
    """Return a content's newest row.

    Raises:
        InvalidInput: the catalogue does not know the content.
    """
    known = read_catalogue(lake, now=now)
    found = next((row for row in known if row.content_id == content_id), None)
    if found is None:
        raise InvalidInput(f"the catalogue of {lake.root} holds {len(known)} contents, and no {content_id!r}")
    return found


def as_table(rows: Iterable[CatalogueRow]) -> pa.Table:
    """Return rows in the catalogue's columns."""
    plain = [{name: getattr(row, name) for name in CATALOGUE_COLUMNS.names} for row in rows]
    return pa.Table.from_pylist(plain, schema=CATALOGUE_COLUMNS)


def add(lake: Lake, rows: Iterable[CatalogueRow], *, at: datetime) -> None:
    """Add rows to the catalogue in one commit."""
    writer = f"catalogue-{uuid.uuid4()}"
    file = lake.write(DATASET, at.date(), writer, as_table(rows))
    lake.commit(Commit(writer=writer, sequence=0, at=at, files=(file,)))


def notify_change(client: RedisClient) -> None:
    """Notify serving processes that the catalogue has changed. `client` is connected to `redis_serving`."""
    with redis_errors(client):
        client.set(CHANGE_KEY, uuid.uuid4().hex)


def change_token(client: RedisClient) -> bytes | None:
    """Return the token of the last `notify_change`, None if there was none; a different token means a changed catalogue."""
    found: bytes | None = client.get(CHANGE_KEY)
    return found


def _say(lake: Lake, content_id: str, *, withdrawn: bool, at: datetime) -> CatalogueRow:
    before = find(lake, content_id, now=at)
    if before.withdrawn is withdrawn:
        return before
    # Later than the row that it replaces, even if that one's clock was slightly ahead.
    row = replace(before, withdrawn=withdrawn, updated_at=max(at, before.updated_at + timedelta(microseconds=1)))
    add(lake, [row], at=at)
    return row
