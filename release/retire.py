"""Retires a release, which frees its colour."""

from release import colour, dual_write
from release.context import ReleaseContext, exclusive
from release.states import occupants, rollback_target, settle
from release.waiting import wait_until_unused
from stillpoint.audit.log import AuditAction
from stillpoint.errors import ReleaseRefused
from stillpoint.releases.colour import project_name
from stillpoint.releases.records import GONE, State
from stillpoint.releases.write_targets import read_control


def retire(context: ReleaseContext, release_id: str | None = None, *, why: str) -> str:
    """End a release for good, and empty its colour if nothing else uses it. Returns the release's id.

    The order is: the state, the end of the stream's writes (acknowledged), the wait until no worker serves from it, the deletion of its
    keys. After a kill a second run completes it. Without an id, the rollback target is retired.

    Raises:
        ReleaseRefused: it is live, unknown, or a worker still answers with it.
    """
    with exclusive(context, "retire") as held:
        live = settle(context)
        book = context.book
        chosen = release_id or rollback_target(book)
        if chosen is None:
            raise ReleaseRefused("there is no rollback target to retire; name a release")
        intents = {intent.id: intent for intent in book.intents()}
        if chosen not in intents:
            known = ", ".join(intents) or "none"
            raise ReleaseRefused(f"there is no release {chosen!r}; there are: {known}")
        if live is not None and live.release == chosen:
            raise ReleaseRefused(f"release {chosen} is live; switch to another or roll back before retiring it")
        held_colour = intents[chosen].colour
        state = book.state(chosen)
        if state is None:
            book.enter(chosen, State.PREPARING, at=context.now(), by=context.operator, why=why)
            state = State.PREPARING
        if state not in GONE:
            context.progress(f"enter retired for {chosen}")
            held.check()
            context.note(AuditAction.RETIRE, chosen, why)
            ended = State.FAILED if state is State.PREPARING else State.RETIRED
            book.enter(chosen, ended, at=context.now(), by=context.operator, why=why)
        if occupants(book, held_colour):
            return chosen
        control = read_control(context.lake.objects)
        context.progress(f"stop the stream's writes into {held_colour}")
        held.check()
        dual_write.aim(context, dual_write.targets_without(control, held_colour))
        context.progress(f"wait until nobody serves from {held_colour}")
        wait_until_unused(context, [intent.id for intent in intents.values() if intent.colour is held_colour])
        context.progress(f"empty {held_colour}")
        held.check()
        colour.empty(context.online(held_colour), project_name(held_colour))
        return chosen
