"""Explores every state that a model can reach, breadth first, so that the first fault found has the shortest trace.

A model is a start, a function from a state to its named steps, and rules. States are hashable values; nothing else is
assumed of them.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
Step = tuple[str, S]


@dataclass(frozen=True)
class Fault(Generic[S]):
    """A broken rule, with the steps that lead to it from the start."""

    rule: str
    trace: tuple[Step[S], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.trace)


@dataclass(frozen=True)
class Explored(Generic[S]):
    """What was found: how many states and steps there are, and the first fault, None if every rule holds everywhere."""

    states: int
    steps: int
    fault: Fault[S] | None


def explore(
    start: S,
    steps: Callable[[S], Iterable[Step[S]]],
    broken: Callable[[S], str | None],
    at_rest: Callable[[S], bool],
    *,
    most: int = 3_000_000,
) -> Explored[S]:
    """Visit every reachable state. `broken` names a rule that a state breaks; from every state one `at_rest` must be reachable.

    Raises:
        OverflowError: there are more than `most` states; nothing is claimed of a part of them.
    """
    came: dict[S, tuple[str, S] | None] = {start: None}
    before: dict[S, list[S]] = {}
    queue = deque([start])
    count = 0
    while queue:
        state = queue.popleft()
        rule = broken(state)
        if rule is not None:
            return Explored(len(came), count, Fault(rule, _trace(came, state)))
        for name, following in steps(state):
            count += 1
            before.setdefault(following, []).append(state)
            if following not in came:
                came[following] = (name, state)
                if len(came) > most:
                    raise OverflowError(f"more than {most} states")
                queue.append(following)
    restful = _backwards([state for state in came if at_rest(state)], before)
    for state in came:
        if state not in restful:
            return Explored(len(came), count, Fault("a verb can always be finished", _trace(came, state)))
    return Explored(len(came), count, None)


def _backwards(ends: list[S], before: dict[S, list[S]]) -> set[S]:
    found = set(ends)
    queue = deque(ends)
    while queue:
        for state in before.get(queue.popleft(), ()):
            if state not in found:
                found.add(state)
                queue.append(state)
    return found


def _trace(came: dict[S, tuple[str, S] | None], state: S) -> tuple[Step[S], ...]:
    trace: list[Step[S]] = []
    while (step := came[state]) is not None:
        trace.append((step[0], state))
        state = step[1]
    return tuple(reversed(trace))
