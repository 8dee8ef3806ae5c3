"""Derives the states of releases from the pointer, and tells what occupies a colour.

The pointer alone decides what is live; states are notes that follow from it. A verb that was killed after the pointer moved leaves old
states, which the next verb corrects.
"""

from collections.abc import Sequence

from release.context import ReleaseContext
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import GONE, History, Intent, Move, Pointer, State, Transition


def settle(context: ReleaseContext) -> Pointer | None:
    """Make the states agree with the pointer, withdraw what a killed verb announced, and return the pointer.

    The release that the pointer names is live. The previous one becomes the rollback target after a switch; after a rollback it gets
    back its earlier state: checked, with the same report, or prepared if its switch was forced.
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
    announced = book.announced()
    if announced is not None and announced.generation > pointer.generation:
        book.withdraw()
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
