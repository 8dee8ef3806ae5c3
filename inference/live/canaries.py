"""Checks in every serving process that the canaries of its release resolve to themselves.

The gate checks the canaries before a switch; this check goes on after it. Rows that a faulty job, a restored backup or a wrong
hand writes into the live colour can carry the right `mapping_version` and still be another user's, which the guard cannot see.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from inference.live.loaded_release import LoadedRelease
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.clock import Clock, to_micros
from stillpoint.errors import StillpointError
from stillpoint.outages import outage
from stillpoint.releases.canaries import canary_faults

log = logging.getLogger(__name__)

CANARY_SECONDS = 3.0
"""How often a process checks. A wrong mapping is told within this time and the scrape interval of the metrics."""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """One check: how many canaries were read, what is wrong with which, and how many have no row (as after an erasure)."""

    release: str
    checked: int
    wrong: tuple[str, ...]
    missing: int


def check_canaries(loaded: LoadedRelease, *, now_us: int) -> CanaryReport:
    """Read the canaries' rows of the id mapping, in one round trip, as a prediction reads them.

    Raises:
        StackUnavailable: the colour's Redis does not answer.
    """
    ids = [canary.user_id for canary in loaded.canaries]
    if not ids:
        return CanaryReport(loaded.id, 0, (), 0)
    read = loaded.reader.read([USER_SEQUENCE.name], {USER_SEQUENCE.entity.join_key: ids}, now_us=now_us)
    sequence_ids, versions = (read.values(name) for name in USER_SEQUENCE.feature_names)
    faults = canary_faults(loaded.canaries, sequence_ids, versions, loaded.release.mapping_version)
    wrong = tuple(fault.text for fault in faults if not fault.missing)
    return CanaryReport(loaded.id, len(ids), wrong, sum(fault.missing for fault in faults))


class CanaryWatch:
    """Checks the canaries of the release in use again and again, in a thread; `last` is the newest report.

    `on_report` is called with each report. An outage leaves the last report as it is: other alarms tell of it.
    """

    def __init__(
        self,
        current: Callable[[], LoadedRelease | None],
        clock: Clock,
        on_report: Callable[[CanaryReport], None] = lambda report: None,
        *,
        seconds: float = CANARY_SECONDS,
    ) -> None:
        self._current = current
        self._clock = clock
        self._on_report = on_report
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canaries", daemon=True)
        self.last: CanaryReport | None = None

    def start(self) -> None:
        """Check every few seconds from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop checking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def step(self) -> None:
        """Check once, log what has changed for the worse, and hand the report on."""
        loaded = self._current()
        if loaded is None:
            return
        try:
            report = check_canaries(loaded, now_us=to_micros(self._clock()))
        except Exception as error:
            if outage(error) is None and not isinstance(error, StillpointError):
                log.exception("the canaries of %s cannot be checked", loaded.id)
            return
        tell_wrong(report, before=self.last)
        self.last = report
        self._on_report(report)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.step()


def tell_wrong(report: CanaryReport, *, before: CanaryReport | None = None) -> None:
    """Log wrong canaries as an error, once per change."""
    if report.wrong and (before is None or before.wrong != report.wrong):
        log.error(
            "%d of %d canaries of %s are wrong: users may get what is another user's; the first: %s; roll back, or prepare "
            "a release anew",
            len(report.wrong),
            report.checked,
            report.release,
            report.wrong[0],
        )
