"""Writes simulated history to the lake, as if the stream had received it.

Records are parsed and judged by the stream's own code, in order of arrival, and committed by UTC day of arrival. A
longer history of the same scenario begins with the same commits, so it can be extended, and a repetition changes
nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from simulation.delivery import Delivery
from simulation.scenario import Scenario
from stillpoint.app.events import Arrival
from stillpoint.app.load import load_app
from stillpoint.clock import DAY, SECOND, to_micros
from stillpoint.errors import CorruptData, DataRefused
from stillpoint.events.documents import MalformedEvent
from stillpoint.events.parsing import PayloadParser
from stillpoint.events.quarantine import QuarantineRow, quarantine_table
from stillpoint.events.recorded import event_columns, events_table
from stillpoint.events.types import HISTORY_SHARD, Verdict
from stillpoint.features.streamed.judging import Memory, forget, judge
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import by_date
from stillpoint.lake.tables import Lake

APP = "feature_repo"
"""The app whose users are simulated."""

TRUTH_DATASET = "simulation/truth"
_FORGET_EVERY = 100


@dataclass(slots=True)
class DayOfArrivals:
    """The result of one day of arrivals: events with verdicts and sequence numbers, and quarantined records."""

    events: list[Arrival] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    quarantined: list[tuple[Delivery, MalformedEvent, str]] = field(default_factory=list)


class Receiver:
    """Judges records as the stream does, one after another, remembering each user."""

    def __init__(self, parser: PayloadParser, max_event_age_us: int) -> None:
        self._parser = parser
        self._max_event_age_us = max_event_age_us
        self._memories: dict[str, Memory] = {}
        self._count = 0

    def receive(self, deliveries: Iterable[Delivery]) -> DayOfArrivals:
        """Return the verdict on each record; call with the records in order of arrival."""
        found = DayOfArrivals()
        for delivery in deliveries:
            sequence = f"{self._count:020d}"
            self._count += 1
            parsed = self._parser.parse(delivery.payload, delivery.arrived_us)
            if isinstance(parsed, MalformedEvent):
                found.quarantined.append((delivery, parsed, sequence))
                continue
            event = parsed.arrival
            memory = self._memories.setdefault(event.user_id, Memory())
            judgement = judge(memory, event, max_event_age_us=self._max_event_age_us, erased_until_us=None)
            if self._count % _FORGET_EVERY == 0:
                forget(memory, self._max_event_age_us)
            found.events.append(event._replace(arrived_us=judgement.arrived_us))
            found.verdicts.append(judgement.verdict)
            found.sequences.append(sequence)
        return found


def write_history(
    lake: Lake,
    scenario: Scenario,
    *,
    max_event_age: timedelta = timedelta(hours=24),
    progress: Callable[[date], None] = lambda _: None,
) -> Counter[str]:
    """Commit users, catalogue, events, quarantine and the true preference of a scenario to the lake.

    Holds what arrived before the end of the last day (UTC). Returns how many records got each verdict.

    Raises:
        DataRefused: the lake holds the history of another scenario.
    """
    writer = writer_name(scenario)
    others = {name for name in lake.writers() if name.startswith("simulated-")} - {writer}
    if others:
        raise DataRefused(
            f"{lake.root} holds another simulated history ({', '.join(sorted(others))}); give the same seed, start, "
            "users and faults to extend it, or an empty lake"
        )
    events = load_app(APP).events
    columns = event_columns(events)
    receiver = Receiver(PayloadParser(events), int(max_event_age.total_seconds()) * SECOND)
    end = to_micros(scenario.midnight) + scenario.days * DAY
    counts: Counter[str] = Counter()
    first = to_micros(scenario.midnight)
    # East of Greenwich, the local day after the last one begins before the last one ends in UTC.
    longer = replace(scenario, days=scenario.days + 1)
    arriving = (one for one in longer.deliveries() if one.arrived_us < end)
    by_day = {
        number: list(records)
        for number, records in groupby(arriving, key=lambda one: max(0, (one.arrived_us - first) // DAY))
    }
    for number, day in enumerate(scenario.dates()):
        received = receiver.receive(by_day.get(number, []))
        counts.update(verdict.value for verdict in received.verdicts)
        counts[Verdict.QUARANTINED.value] += len(received.quarantined)
        files = _write_received(lake, columns, received, writer, number)
        files += _write_references(lake, scenario, writer, number, day)
        for shown in longer.dates()[:2] if number == 0 else [day + timedelta(days=1)]:
            _, lists = scenario.day(shown)
            files.append(lake.write(TRUTH_DATASET, shown, f"{writer}-{number:06d}", scenario.truth(lists)))
        at = scenario.midnight + timedelta(days=number + 1)
        commit = Commit(writer=writer, sequence=number, at=at, files=tuple(files), properties={"simulated": 1})
        if not lake.commit(commit):
            raise CorruptData(
                f"{lake.root}/{commit.key} holds another history of {day} than this scenario gives; its code has changed "
                "since: begin with an empty lake"
            )
        progress(day)
    return counts


def writer_name(scenario: Scenario) -> str:
    """Return the name under which a scenario's history is committed; it does not depend on the number of days."""
    identity = repr(replace(scenario, days=1))
    return f"simulated-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _write_received(
    lake: Lake, columns: pa.Schema, received: DayOfArrivals, writer: str, number: int
) -> list[CommittedFile]:
    name = f"{writer}-{number:06d}"
    shards = [HISTORY_SHARD] * len(received.events)
    table = events_table(columns, received.events, received.verdicts, shards, received.sequences)
    files = [lake.write("events", day, name, part) for day, part in by_date(table)]
    if received.quarantined:
        rows = [
            QuarantineRow(
                delivery.arrived_us,
                HISTORY_SHARD,
                sequence,
                delivery.partition_key,
                malformed.field,
                malformed.reason,
                delivery.payload,
            )
            for delivery, malformed, sequence in received.quarantined
        ]
        quarantine = quarantine_table(rows)
        files += [lake.write("quarantine", day, name, part) for day, part in by_date(quarantine, "arrived_at")]
    return files


def _write_references(lake: Lake, scenario: Scenario, writer: str, number: int, day: date) -> list[CommittedFile]:
    """Write the rows of users and catalogue that became known on a day; before the first, all that were known then."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    until = midnight + timedelta(days=1)
    files = []
    for dataset, table in (("users", scenario.population.table(until)), ("catalogue", scenario.catalogue.table())):
        updated = table["updated_at"]
        known = pc.less(updated, pa.scalar(until, updated.type))
        if number:
            known = pc.and_(known, pc.greater_equal(updated, pa.scalar(midnight, updated.type)))
        rows = table.filter(known)
        if rows.num_rows:
            files.append(lake.write(dataset, day, f"{writer}-{number:06d}", rows))
    return files
