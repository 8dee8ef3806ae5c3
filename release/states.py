"""The states that follow from the pointer, and what occupies a colour.

The pointer decides; states are its notes. A verb that is killed between the two leaves notes behind, which the next verb
puts right.
"""

from collections.abc import Sequence

from release.context import ReleaseContext
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import GONE, History, Intent, Move, Pointer, State, Transition


def settle(context: ReleaseContext) -> Pointer | None:
    """Make the states agree with the pointer, and return it.

    The release that it names is live. The one before it becomes a rollback target after a switch; after a rollback it
    gets back the state that it came from, checked with the same report, or prepared if it was forced.
    """
    book = context.book
    pointer = book.live()
    if pointer is None:
        return None
    for history in book.histories():
        release_id = history.intent.id
        if release_id != pointer.release and history.state is State.LIVE:
            switched = pointer.move is Move.SWITCH
            state = State.ROLLBACK_TARGET if switched else _before_live(history)
            report = None if switched else _last_report(history.steps)
            book.enter(release_id, state, at=pointer.at, by=pointer.by, why=pointer.why, report=report)
    if book.state(pointer.release) is not State.LIVE:
        report = last_report(book, pointer.release)
        book.enter(pointer.release, State.LIVE, at=pointer.at, by=pointer.by, why=pointer.why, report=report)
    return pointer


def _before_live(history: History) -> State:
    came_from = [step.state for step in history.steps if step.state in (State.PREPARED, State.CHECKED)]
    return came_from[-1]


def last_report(book: ObjectReleaseBook, release_id: str) -> str | None:
    """Return the key of the last report of the gate on a release."""
    return _last_report(book.transitions(release_id))


def _last_report(steps: Sequence[Transition]) -> str | None:
    reports = [step.report for step in steps if step.report]
    return reports[-1] if reports else None


def occupants(book: ObjectReleaseBook, colour: Colour) -> list[Intent]:
    """Return the releases that hold a colour: neither retired nor failed, the oldest first."""
    return [
        history.intent for history in book.histories() if history.intent.colour is colour and history.state not in GONE
    ]


def rollback_target(book: ObjectReleaseBook) -> str | None:
    """Return the release that a rollback would make live: the one that was live last."""
    targets = [
        (history.steps[-1].at, int(history.intent.id[1:]), history.intent.id)
        for history in book.histories()
        if history.state is State.ROLLBACK_TARGET
    ]
    return max(targets)[2] if targets else None
