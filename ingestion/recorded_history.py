"""Writes recorded events to the lake as history, as if each had been received when it happened.

The stream takes no event that is older than a day at its arrival; months of a log become history here instead, from which
backfill and training read. One commit per file: a file that is loaded twice changes nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from ingestion.publish import Line
from stillpoint.app.events import Arrival
from stillpoint.events.parsing import ParsedEvent, PayloadParser
from stillpoint.events.recorded import event_columns, events_table
from stillpoint.events.types import HISTORY_SHARD, Verdict
from stillpoint.features.streamed.judging import Memory, judge
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date
from stillpoint.lake.tables import Lake

_FOREVER_US = 1 << 62


def load_history(lake: Lake, lines: Iterable[Line], parser: PayloadParser, *, at: datetime) -> Counter[str]:
    """Commit valid events, given in the order of their times, and return how many got each verdict.

    The counter is empty if the very same events were loaded before.
    """
    memories: dict[str, Memory] = {}
    arrivals: list[Arrival] = []
    verdicts: list[Verdict] = []
    digest = hashlib.sha256()
    for line in lines:
        parsed = parser.parse(line.payload, _FOREVER_US)
        assert isinstance(parsed, ParsedEvent), "lines are judged before"
        digest.update(line.payload)
        arrival = parsed.arrival._replace(arrived_us=parsed.arrival.event_us)
        memory = memories.setdefault(arrival.user_id, Memory())
        judgement = judge(memory, arrival, max_event_age_us=_FOREVER_US, erased_until_us=None)
        arrivals.append(arrival._replace(arrived_us=judgement.arrived_us))
        verdicts.append(judgement.verdict)
    name = f"history-{digest.hexdigest()[:12]}"
    if lake.committed(name, 0):
        return Counter()
    places = [f"{name}-{number:012d}" for number in range(len(arrivals))]
    table = events_table(event_columns(parser.events), arrivals, verdicts, [HISTORY_SHARD] * len(places), places)
    files = tuple(lake.write("events", day, name, part) for day, part in by_date(table))
    if not lake.commit(Commit(writer=name, sequence=0, at=at, files=files)):
        return Counter()
    return Counter(str(verdict) for verdict in verdicts)
