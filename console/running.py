"""A verb while it runs: its steps, its end, and what a bounded load of requests sees meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from console.live.readings import Readings
from console.sources import Sources
from console.trouble import Trouble, trouble
from console.verbs import Outcome, ReleaseVerb, VerbOrder, run_verb
from simulation.demo.watch import DemoLoad, LoadTally

PER_SECOND = 20.0
_AFTER_SECONDS = 1.5
USERS = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """What the load has seen so far."""

    requests: int
    failed: int
    mixed: int
    releases: tuple[tuple[str, int], ...]
    example: str | None

    @classmethod
    def of(cls, tally: LoadTally) -> "Seen":
        return cls(
            tally.requests,
            tally.failed,
            tally.mixed,
            tuple(sorted(tally.releases.items())),
            tally.examples[0] if tally.examples else None,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One verb's run. `seen` is None for a verb that moves nothing live, and where no service answers."""

    verb: ReleaseVerb
    release: str
    steps: tuple[str, ...] = ()
    outcome: Outcome | None = None
    trouble: Trouble | None = None
    seen: Seen | None = None

    @property
    def ended(self) -> bool:
        return self.outcome is not None or self.trouble is not None


@dataclass(slots=True)
class Runs:
    """The run of one console at a time: release verbs exclude each other by their lease anyhow."""

    sources: Sources
    readings: Readings
    current: Run | None = None
    _load: DemoLoad | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def look(self) -> Run | None:
        """Return the run with what the load has seen by now."""
        if self.current is not None and self._load is not None:
            self.current = replace(self.current, seen=Seen.of(self._load.tally))
        return self.current

    @property
    def busy(self) -> bool:
        return self.current is not None and not self.current.ended

    def begin(self, order: VerbOrder) -> None:
        """Start a verb in the background; one that runs already is left alone."""
        if self.busy:
            return
        self.current, self._load = Run(order.verb, order.release), None
        task = asyncio.ensure_future(self._run(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, order: VerbOrder) -> None:
        loop = asyncio.get_running_loop()

        def progress(step: str) -> None:
            loop.call_soon_threadsafe(self._step, step)

        def work() -> Outcome:
            return run_verb(self.sources, order, progress)

        try:
            if order.verb in (ReleaseVerb.SWITCH, ReleaseVerb.ROLL_BACK):
                outcome = await self._under_load(work, order.authorization)
            else:
                outcome = await self.readings.run(work)
        except Exception as error:  # noqa: BLE001  a verb that refuses says why on the page
            self._end(trouble=trouble(error))
        else:
            self._end(outcome=outcome)
        self.readings.forget("status", "live", "book", "release:", "changes:")

    async def _under_load(self, work: Callable[[], Outcome], authorization: str | None) -> Outcome:
        users = await self.readings.run(lambda: some_users(self.sources))
        answers = await self.readings.run(lambda: _ready(self.sources))
        if not users or not answers:
            return await self.readings.run(work)
        headers = {} if authorization is None else {"Authorization": authorization}
        load = self._load = DemoLoad(self.sources.service, users, per_second=PER_SECOND, headers=headers)
        await self.readings.run(load.__enter__)
        try:
            outcome = await self.readings.run(work)
            await asyncio.sleep(_AFTER_SECONDS)
            return outcome
        finally:
            await self.readings.run(lambda: load.__exit__())

    def _step(self, step: str) -> None:
        if self.current is not None and not self.current.ended:
            self.current = replace(self.current, steps=(*self.current.steps, step))

    def _end(self, *, outcome: Outcome | None = None, trouble: Trouble | None = None) -> None:
        run = self.look()
        self._load = None
        if run is not None:
            self.current = replace(run, outcome=outcome, trouble=trouble)


def some_users(sources: Sources) -> Sequence[str]:
    """Return users to ask for: those of the lake, in the order of their ids."""
    table = sources.lake.read("users", columns=["user_id"])
    return sorted(set(table["user_id"].to_pylist()))[:USERS]


def _ready(sources: Sources) -> bool:
    try:
        return sources.ask("GET", "/readyz").status_code == 200
    except Exception:  # noqa: BLE001  then the verb runs without a load, and the page says so
        return False
