"""Which states follow from the pointer, and what occupies a colour?

The pointer decides; states are its notes. A verb that is killed between the two leaves notes behind, which the next verb
puts right.
"""

from release.tools import Tools
from stillpoint.releases import GONE, Intent, Move, ObjectReleaseBook, Pointer, State
from stillpoint.settings import Colour


def settle(tools: Tools) -> Pointer | None:
    """Make the states agree with the pointer, and return it.

    The release that it names is live. The one before it becomes a rollback target after a switch; after a rollback it
    gets back the state that it came from, checked with the same report, or prepared if it was forced.
    """
    book = tools.book
    pointer = book.live()
    if pointer is None:
        return None
    for intent in book.intents():
        if intent.id != pointer.release and book.state(intent.id) is State.LIVE:
            switched = pointer.move is Move.SWITCH
            state = State.ROLLBACK_TARGET if switched else _before_live(book, intent.id)
            report = None if switched else last_report(book, intent.id)
            book.enter(intent.id, state, at=pointer.at, by=pointer.by, why=pointer.why, report=report)
    if book.state(pointer.release) is not State.LIVE:
        report = last_report(book, pointer.release)
        book.enter(pointer.release, State.LIVE, at=pointer.at, by=pointer.by, why=pointer.why, report=report)
    return pointer


def _before_live(book: ObjectReleaseBook, release_id: str) -> State:
    came_from = [step.state for step in book.transitions(release_id) if step.state in (State.PREPARED, State.CHECKED)]
    return came_from[-1]


def last_report(book: ObjectReleaseBook, release_id: str) -> str | None:
    """Return the key of the last report of the gate on a release."""
    reports = [step.report for step in book.transitions(release_id) if step.report]
    return reports[-1] if reports else None


def occupants(book: ObjectReleaseBook, colour: Colour) -> list[Intent]:
    """Return the releases that hold a colour: neither retired nor failed, the oldest first."""
    return [intent for intent in book.intents() if intent.colour is colour and book.state(intent.id) not in GONE]


def rollback_target(book: ObjectReleaseBook) -> str | None:
    """Return the release that a rollback would make live: the one that was live last."""
    targets = [
        (book.transitions(intent.id)[-1].at, int(intent.id[1:]), intent.id)
        for intent in book.intents()
        if book.state(intent.id) is State.ROLLBACK_TARGET
    ]
    return max(targets)[2] if targets else None
