"""Erasures that this console runs: the verb's own function in a thread, with its steps and its receipt."""

import asyncio
from dataclasses import dataclass, field, replace

from console.audit import note
from console.live.readings import Readings
from console.sources import Sources
from console.trouble import Trouble, trouble
from privacy.erasure.receipt import Receipt
from stillpoint.audit.log import AuditAction

WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ErasureRun:
    """One erasure: its last step, and its receipt or what stopped it."""

    step: str = "begins"
    receipt: Receipt | None = None
    trouble: Trouble | None = None

    @property
    def ended(self) -> bool:
        return self.receipt is not None or self.trouble is not None


@dataclass(slots=True)
class Erasures:
    """The erasures of one console by user id, kept in memory only; receipts are kept in the lake."""

    sources: Sources
    readings: Readings
    runs: dict[str, ErasureRun] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def begin(self, user_id: str, *, by: str) -> None:
        """Start erasing a user in the background, unless that runs already; who asked is noted first."""
        if user_id in self.runs and not self.runs[user_id].ended:
            return
        self.runs[user_id] = ErasureRun()
        task = asyncio.ensure_future(self._run(user_id, by))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, user_id: str, by: str) -> None:
        from privacy.erasure.run import erase

        loop = asyncio.get_running_loop()

        def progress(step: str) -> None:
            loop.call_soon_threadsafe(self._step, user_id, step)

        sources = self.sources
        try:
            await self.readings.run(lambda: note(sources, AuditAction.ERASE, user_id, by=by))
            receipt = await self.readings.run(
                lambda: erase(
                    sources.settings,
                    sources.lake,
                    user_id,
                    clock=sources.clock,
                    wait_seconds=WAIT_SECONDS,
                    progress=progress,
                )
            )
        except Exception as error:  # noqa: BLE001  told on the page; an erasure may be run again
            self.runs[user_id] = ErasureRun(trouble=trouble(error))
        else:
            self.runs[user_id] = ErasureRun(receipt=receipt)
        self.readings.forget(f"user:{user_id}", f"events:{user_id}", f"why:{user_id}")

    def _step(self, user_id: str, step: str) -> None:
        run = self.runs[user_id]
        if not run.ended:
            self.runs[user_id] = replace(run, step=step)
