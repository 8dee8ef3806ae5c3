"""The servers of the stack, and what else runs for the home."""

from dataclasses import dataclass

from stillpoint.local.stack import ProcessStatus, ServerStatus, Stack
from stillpoint.settings import Settings


@dataclass(frozen=True, slots=True)
class Machine:
    """What `stillpoint status` shows."""

    servers: tuple[ServerStatus, ...]
    processes: tuple[ProcessStatus, ...]

    def address_of(self, role: str) -> str | None:
        """Return where a running process of a role listens, None if none does."""
        return next((one.address for one in self.processes if one.role == role and one.address), None)


def machine(settings: Settings) -> Machine:
    """Ask every server how it is, and look at the processes of the home."""
    stack = Stack(settings)
    return Machine(tuple(stack.status()), tuple(stack.processes()))
