"""Gate check: no group of users is served worse than another beyond what is allowed and beyond chance."""

from collections.abc import Mapping

from release.gate import CheckResult, Side, Subject

_PREFIX = "gap_"


class Fairness:
    """Looks at the gaps in NDCG@3 between groups of users, as each kind's model was evaluated."""

    name = "fairness"

    def run(self, subject: Subject) -> CheckResult:
        """Compare the gaps in the models' manifests with the setting; without one they are only reported."""
        return judge(gaps_of(subject.candidate), most=subject.thresholds.fairness_gap)


def gaps_of(side: Side) -> dict[str, Mapping[str, float]]:
    """Return by kind what its model's manifest says of gaps."""
    return {
        kind.value: {n: v for n, v in side.models[route.sha256].manifest.metrics.items() if n.startswith(_PREFIX)}
        for kind, route in side.release.routes.items()
    }


def judge(found: Mapping[str, Mapping[str, float]], *, most: float | None) -> CheckResult:
    """Return the gaps of each kind. One is refused if even the lower end of its interval lies above `most`.

    With `most`, a model whose gaps were not recorded is refused too.
    """
    told: dict[str, list[str]] = {}
    refused: list[str] = []
    numbers: dict[str, float | None] = {}
    for kind, metrics in found.items():
        attributes = sorted(n.removeprefix(_PREFIX) for n in metrics if f"{n}_low" in metrics)
        if not attributes:
            told.setdefault("not recorded", []).append(kind)
            refused += [kind] if most is not None else []
        for attribute in attributes:
            value, low, high = (metrics[f"{_PREFIX}{attribute}{end}"] for end in ("", "_low", "_high"))
            numbers[f"{kind} {attribute}"] = value
            told.setdefault(f"{attribute} {value:.3f} ({low:.3f} to {high:.3f})", []).append(kind)
            if most is not None and low > most:
                refused.append(f"{kind} {attribute}")
    return CheckResult(
        name=Fairness.name,
        passed=not refused,
        found="; ".join(f"{', '.join(kinds)}: {text}" for text, kinds in told.items()),
        expected="gaps in NDCG@3 between groups reported"
        if most is None
        else f"no gap in NDCG@3 between groups above {most:.3f} beyond chance",
        numbers=numbers,
        examples=tuple(refused),
    )
