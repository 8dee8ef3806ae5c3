"""The release verbs as the console runs them: the command line's own functions, in a thread, with their steps told."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from console.sources import Sources
from release.context import ReleaseContext


class ReleaseVerb(StrEnum):
    """A verb that changes which release is live, or what may become it."""

    CHECK = "check"
    SWITCH = "switch"
    ROLL_BACK = "roll back"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb ended with: a sentence, whether it did what was asked, and a warning beside it."""

    sentence: str
    good: bool
    warning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbOrder:
    """A verb to run: on which release, why, by whom; `force` is the reason to switch without a green report.

    `authorization` is the header with which the load asks the service; None where no token is needed.
    """

    verb: ReleaseVerb
    release: str
    why: str
    force: str | None
    by: str
    authorization: str | None


def run_verb(sources: Sources, order: VerbOrder, progress: Callable[[str], None]) -> Outcome:
    """Run a verb to its end, as `stillpoint release` does, MLflow's aliases included.

    Raises:
        StillpointError: the verb refuses; the live release is undisturbed.
    """
    context = sources.release_context(by=order.by, progress=progress)
    sentence, good = _run(context, order)
    from release.aliases import tell_mlflow, wanted

    progress("set the aliases in MLflow")
    return Outcome(sentence, good, tell_mlflow(sources.settings.mlflow_tracking_uri, wanted(context.book)))


def _run(context: ReleaseContext, order: VerbOrder) -> tuple[str, bool]:
    release_id, why = order.release, order.why
    match order.verb:
        case ReleaseVerb.CHECK:
            from release.check import check

            report = check(context, release_id)
            red = ", ".join(one.name for one in report.failures())
            return (f"The gate of {release_id} is {'green' if report.passed else f'red: {red}'}.", report.passed)
        case ReleaseVerb.SWITCH:
            from release.switch import switch

            done = switch(context, release_id, why=why, force=order.force)
        case ReleaseVerb.ROLL_BACK:
            from release.switch import roll_back

            done = roll_back(context, why=why)
        case ReleaseVerb.RETIRE:
            from release.retire import retire

            return f"{retire(context, release_id, why=why)} is retired.", True
    hanging = f" {', '.join(done.hanging)} still answers with another release." if done.hanging else ""
    sentence = (
        f"{done.release.id} is live in {done.release.colour}, generation {done.pointer.generation}: workers loaded it in "
        f"{done.load_seconds:.2f} s and answered with it {done.switch_seconds:.2f} s after the switch.{hanging}"
    )
    return sentence, not done.hanging
