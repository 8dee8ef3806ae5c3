"""Gate check: each kind's model is at least as good as the live one, on the same lists of the same users.

Figures that two models got on two snapshots cannot be compared: the days differ. Here the live model ranks the lists that the candidate
was judged by, and the difference is taken list by list, with an interval from drawing users. By default the gate only reports it.
"""

from collections.abc import Mapping

from release.gate import CheckResult, Side, Subject
from release.paired import PairedLift, paired
from stillpoint.messages import Kind


class BetterThanLive:
    """Compares the NDCG@3 of each kind's model with the live model's."""

    name = "better than live"

    def run(self, subject: Subject) -> CheckResult:
        """Compare on paired lists. Passes when nothing is live, and for the live model itself."""
        return judge(_comparisons(subject), least=subject.thresholds.better_than_live)


def _comparisons(subject: Subject) -> Mapping[str, PairedLift | str | None] | None:
    """Return for each kind the comparison, why there is none, or None for the live model itself; None if nothing is live."""
    live = subject.live
    if live is None:
        return None
    known: dict[tuple[str, str], PairedLift | str] = {}
    found: dict[str, PairedLift | str | None] = {}
    for kind, route in subject.candidate.release.routes.items():
        other = _digest(live, kind)
        if other is None:
            found[kind.value] = "nothing live makes this kind"
        elif route.sha256 == other:
            found[kind.value] = None
        else:
            if (route.sha256, other) not in known:
                models = subject.candidate.models[route.sha256], live.models[other]
                known[route.sha256, other] = paired(subject.lake, *models, seed=subject.seed)
            found[kind.value] = known[route.sha256, other]
    return found


def _digest(side: Side, kind: Kind) -> str | None:
    route = side.release.routes.get(kind)
    return None if route is None else route.sha256


def judge(comparisons: Mapping[str, PairedLift | str | None] | None, *, least: float | None) -> CheckResult:
    """Return for each kind by how much NDCG@3 rises. With `least`, the interval's lower end must reach it, and what cannot be
    compared is refused; None lets everything pass."""
    expected = (
        "the rise in NDCG@3 over the live model reported"
        if least is None
        else f"a rise in NDCG@3 over the live model of at least {least:+.4f} at the lower end of its interval"
    )
    if comparisons is None:
        return CheckResult(name=BetterThanLive.name, passed=True, found="nothing is live", expected=expected)
    told, refused = {}, []
    numbers: dict[str, float | None] = {}
    for kind, one in comparisons.items():
        if one is None:
            told[kind] = "the live model again"
            continue
        if isinstance(one, str):
            numbers[kind] = None
            told[kind] = f"unknown ({one})"
        else:
            lift = one.lift
            numbers |= {kind: lift.value, f"{kind} low": lift.low, f"{kind} high": lift.high}
            level = "" if lift.low > 0 else ", worse" if lift.high < 0 else ", not better beyond chance"
            told[kind] = (
                f"{lift.value:+.4f} ({lift.low:+.4f} to {lift.high:+.4f}) on the same {lift.lists:,} lists of "
                f"{one.users:,} users{level}"
            )
        if least is not None and (isinstance(one, str) or one.lift.low < least):
            refused.append(kind)
    groups: dict[str, list[str]] = {}
    for kind, text in told.items():
        groups.setdefault(text, []).append(kind)
    return CheckResult(
        name=BetterThanLive.name,
        passed=not refused,
        found="; ".join(f"{', '.join(kinds)}: {text}" for text, kinds in groups.items()),
        expected=expected,
        numbers=numbers,
        examples=tuple(refused),
    )
