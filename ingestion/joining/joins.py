"""Begins joins and hands them over, between two micro-batches; a join that fails is begun anew after a pause."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from ingestion.batch import rules_of
from ingestion.batch_writes import write_online
from ingestion.joining.join import ViewJoin
from ingestion.state_store import StatesLost, StateStore
from ingestion.view_states import ViewStates
from stillpoint.clock import SECOND, Clock
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.features.streamed.definition import Row
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.tables import Lake
from stillpoint.leases.active_jobs import announce_job
from stillpoint.releases.write_targets import read_control
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.tombstones import erasure_key, read_tombstones

log = logging.getLogger(__name__)

PAUSE = timedelta(seconds=30)

Start = Callable[[Callable[[], None]], None]
"""Runs a function beside the caller."""


def in_a_thread(work: Callable[[], None]) -> None:
    """Run a function in a thread that does not keep the process alive."""
    threading.Thread(target=work, name="join", daemon=True).start()


class ViewJoins:
    """Lets the app's views join that the stream's states lack. Its methods are called while no batch runs."""

    def __init__(self, settings: Settings, *, query: str, epoch: int, clock: Clock, start: Start = in_a_thread) -> None:
        self._settings = settings
        self._query = query
        self._epoch = epoch
        self._clock = clock
        self._start = start
        self._join: ViewJoin | None = None
        self._ended = threading.Event()
        self._failed = threading.Event()
        self._not_before: datetime | None = None

    def note(self, files: Sequence[CommittedFile]) -> None:
        """Tell the join that is under way, if one is, of the files of a committed batch."""
        if self._join is not None:
            self._join.note(files)

    @property
    def ready(self) -> bool:
        """Whether the next step hands over a join."""
        return self._join is not None and self._join.ready.is_set()

    def step(self, views: ViewStates, newest: int | None) -> ViewStates:
        """Hand over a join that is ready, or begin one for views that are missing. Return what the states know by now.

        `newest` is the last committed batch. The rows of a join that is handed over are committed.
        """
        if self._join is not None and self._failed.is_set():
            self._break_off()
        if self._join is not None:
            return self._handed_over(views) if self.ready else views
        missing = rules_of(self._settings).stream.sections - views.active
        waits = self._not_before is not None and self._clock() < self._not_before
        if missing and newest is not None and not waits:
            self._begin(missing, newest)
        return views

    def stop(self) -> None:
        """Break a join off that is under way: the next run begins it anew."""
        if self._join is not None:
            self._break_off()

    def _handed_over(self, views: ViewStates) -> ViewStates:
        assert self._join is not None
        try:
            handed = self._join.finish()
        except StatesLost:
            self._break_off()
            raise
        self._ended.set()
        self._join = None
        log.warning("views joined the stream: %s", ", ".join(sorted(handed.sections)))
        return views.with_join(handed.join, handed.sections)

    def _break_off(self) -> None:
        assert self._join is not None
        self._join.stop()
        self._ended.set()
        self._join = None
        self._not_before = self._clock() + PAUSE

    def _begin(self, missing: frozenset[str], newest: int) -> None:
        settings = self._settings
        app = rules_of(settings).stream.app
        lake = open_lake(settings)
        stream = AppStream(
            app,
            encoder=RememberingEncoder(WordLlamaEncoder()),
            max_event_age_us=settings.max_event_age * SECOND,
            sections=missing,
        )
        join = ViewJoin(
            lake,
            StateStore(connect(settings.redis_state.get_secret_value()), self._query),
            stream,
            batch=newest,
            epoch=self._epoch,
            tombstones=read_tombstones(lake.objects, erasure_key(settings)),
            clock=self._clock,
            write_online=_Colours(settings, lake, stream),
        )
        self._join, self._ended, self._failed = join, threading.Event(), threading.Event()
        log.warning("views join the stream behind batch %d: %s", newest, ", ".join(sorted(missing)))
        self._start(_Work(join, lake, self._clock, self._ended, self._failed))


class _Work:
    """Computes a join. An erasure waits for it until its rows are committed or it is broken off."""

    def __init__(
        self, join: ViewJoin, lake: Lake, clock: Clock, ended: threading.Event, failed: threading.Event
    ) -> None:
        self._join, self._lake, self._clock, self._ended, self._failed = join, lake, clock, ended, failed

    @property
    def is_ready(self) -> bool:
        """Whether the driver may hand over."""
        return self._join.ready.is_set()

    def __call__(self) -> None:
        try:
            with announce_job(self._lake.objects, "views joining the stream", clock=self._clock):
                self._join.compute()
                self._ended.wait()
        except Exception as error:  # noqa: BLE001  whatever it was, the stream goes on, and the join begins anew
            log.error("views could not join and begin anew: %s: %s", type(error).__name__, error)
            self._failed.set()


class _Colours:
    """Writes the rows of a join into colours whose release already reads the views."""

    def __init__(self, settings: Settings, lake: Lake, stream: AppStream) -> None:
        self._settings, self._lake, self._stream = settings, lake, stream
        self._writers: dict[str, OnlineWriter] = {}

    def __call__(self, rows: dict[str, list[Row]]) -> None:
        control = read_control(self._lake.objects)
        for target in control.targets:
            if target.project not in self._writers:
                client = connect(self._settings.connection(target.colour))
                self._writers[target.project] = OnlineWriter(client, target.project)
        for _ in write_online(self._writers, control, self._stream.tables(rows)):
            pass
