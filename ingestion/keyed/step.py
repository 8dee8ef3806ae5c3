"""The executor's second half of a micro-batch: rows of keys that belong to no single user.

Verdicts are given per user first; then a key's on-time events come together here, from however many users and parts. A
key's state lies in Redis around the batch, as a user's does: whatever is killed, the batch is repeated from the states
before it, in any number of partitions.
"""

import time
from collections.abc import Iterator

import pyarrow as pa

from ingestion.batch import Batch, Clients, PartReport, open_clients
from ingestion.batch_writes import write_online, write_rows
from ingestion.keyed.exchange import KeyPartition, exchanged, key_name
from ingestion.keyed.past import rows_from_the_lake
from ingestion.state_store import Change
from stillpoint.app.events import Arrival
from stillpoint.features.streamed.definition import Key, Row


def map_keys(batches: Iterator[pa.RecordBatch], batch: Batch) -> Iterator[pa.RecordBatch]:
    """Compute one partition of keys, and yield its report behind those of the parts; for `mapInArrow`."""
    received = list(batches)
    if not received:
        return
    clients = open_clients(batch.settings, batch.query, batch.control, batch.views.active)
    found = exchanged(received, clients.rules.stream.app)
    reports = list(found.reports)
    if found.events:
        reports.append(run_keys(found, batch, clients).to_json())
    if reports:
        yield pa.RecordBatch.from_pydict({"report": reports})


def run_keys(found: KeyPartition, batch: Batch, clients: Clients) -> PartReport:
    """Compute keys with all effects: online rows, lake files, states."""
    report = PartReport()
    started = time.perf_counter()
    rows: dict[str, list[Row]] = {}
    changes = {}
    for view, groups in found.events.items():
        changes[view] = _advance(view, groups, batch, clients, rows)
    tables = clients.rules.stream.tables(rows)
    for one in write_online(clients.writers, batch.control, tables):
        report.rows[one.place] = one.rows
        report.newest_event_us[one.place] = one.newest_event_us
    report.files = list(write_rows(clients.lake, batch.part_name(), tables))
    for view, own in changes.items():
        clients.states.save(own, batch=batch.number, epoch=batch.epoch, space=_space(view, batch, clients))
    report.seconds["keys"] = time.perf_counter() - started
    return report


def _advance(
    view: str, groups: dict[Key, list[Arrival]], batch: Batch, clients: Clients, rows: dict[str, list[Row]]
) -> dict[str, Change]:
    """Add the rows of one view's keys to `rows`, and return the change of each key's state."""
    engine, space = clients.rules.stream.engine, _space(view, batch, clients)
    names = {key_name(key): key for key in groups}
    states = clients.states.load(list(names), batch.number, instance=batch.instance, space=space)
    changes = {}
    for name, key in names.items():
        found = engine.advance_key(view, key, states[name], groups[key])
        computed = rows.setdefault(view, [])
        computed += found.rows
        if found.behind is not None:
            computed += rows_from_the_lake(clients.lake, clients.rules.stream, view, key, groups[key], found.behind)
        changes[name] = Change(states[name], found.state, found.until_us)
    return changes


def _space(view: str, batch: Batch, clients: Clients) -> str:
    return batch.views.space(clients.rules.stream.engine.of_others[view].section)
