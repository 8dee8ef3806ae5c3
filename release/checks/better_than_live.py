"""Gate check: each kind's model is at least as good as the live one.

Each model was evaluated on the end of its own snapshot before the final fit, and these recorded figures are compared. Between snapshots
that lie far apart, a small difference says little. By default the gate only reports it.
"""

from collections.abc import Mapping

from release.gate import CheckResult, Side, Subject

METRIC = "ranker_ndcg_at_3"


class BetterThanLive:
    """Compares the NDCG@3 of each kind's model with the live model's."""

    name = "better than live"

    def run(self, subject: Subject) -> CheckResult:
        """Compare the metrics in the models' manifests. Passes when nothing is live."""
        live = None if subject.live is None else figures(subject.live)
        return judge(figures(subject.candidate), live, least=subject.thresholds.better_than_live)


def figures(side: Side) -> dict[str, tuple[str, float | None]]:
    """Return for each kind its model's digest and NDCG@3; None where it was not recorded."""
    return {
        kind.value: (route.sha256, side.models[route.sha256].manifest.metrics.get(METRIC))
        for kind, route in side.release.routes.items()
    }


def judge(
    candidate: Mapping[str, tuple[str, float | None]],
    live: Mapping[str, tuple[str, float | None]] | None,
    *,
    least: float | None,
) -> CheckResult:
    """Return for each kind by how much NDCG@3 rises. `least` is the smallest rise that passes; None lets every rise pass.

    The same model as the live one always passes. A metric that was not recorded passes only without `least`.
    """
    expected = (
        "NDCG@3 of each model reported" if least is None else f"NDCG@3 at least {least:+.4f} against the live model"
    )
    if live is None:
        return CheckResult(name=BetterThanLive.name, passed=True, found="nothing is live", expected=expected)
    told, refused = {}, []
    numbers: dict[str, float | None] = {}
    for kind, (digest, figure) in candidate.items():
        live_digest, live_figure = live.get(kind, ("", None))
        if digest == live_digest:
            told[kind] = "the live model again"
            continue
        gain = None if figure is None or live_figure is None else figure - live_figure
        numbers[kind] = gain
        if gain is None:
            told[kind] = f"unknown ({METRIC} is not recorded for {digest[:12] if figure is None else live_digest[:12]})"
        else:
            told[kind] = f"{figure:.4f} against {live_figure:.4f}" + ("" if gain > 0 else ", not better")
        if least is not None and (gain is None or gain < least):
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
