"""A rehearsal's report, in words and as a picture."""

from collections.abc import Sequence
from pathlib import Path

from release.rehearsal.history import RecordedAnswer
from release.rehearsal.run import RehearsalReport


def text(found: RehearsalReport) -> str:
    """Return the findings as lines for a terminal."""
    verdict = found.verdict
    lines = [
        (
            f"{verdict.requests} requests in {found.seconds:.0f} s through {len(found.moves)} moves (seed {found.seed}): "
            f"{verdict.counts()}; "
            f"{verdict.retried} asked again after a dropped connection, {verdict.fallbacks} fallbacks"
        ),
        "answers by release: " + ", ".join(f"{name} {count}" for name, count in verdict.per_release.items()),
    ]
    if found.moves:
        took = sorted(move.switch_seconds for move in found.moves)
        lines.append(
            f"from generation to last acknowledgement: median {took[len(took) // 2]:.3f} s, longest {took[-1]:.3f} s"
        )
    lines += [
        f"latency {phase}: p50 {numbers['p50']:.1f} ms, p99 {numbers['p99']:.1f} ms ({numbers['count']:.0f} answers)"
        for phase, numbers in found.latency.items()
    ]
    return "\n".join([*lines, *verdict.examples])


def plot(found: RehearsalReport, answers: Sequence[RecordedAnswer], path: Path) -> None:
    """Draw each answer's latency over time, coloured by release, with the moves as bands, into an SVG or PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.add_subplot()
    good = [answer for answer in answers if answer.status == 200 and answer.releases]
    for name in sorted({answer.releases[0] for answer in good}):
        mine = [answer for answer in good if answer.releases[0] == name]
        axes.plot([a.began for a in mine], [a.seconds * 1000 for a in mine], ".", markersize=2, label=name)
    bad = [answer for answer in answers if answer.status != 200]
    axes.plot([a.began for a in bad], [a.seconds * 1000 for a in bad], "rx", label=f"failed ({len(bad)})")
    for move in found.moves:
        axes.axvspan(move.began, move.ended, color="#999999", alpha=0.25)
    axes.set_xlabel("seconds")
    axes.set_ylabel("milliseconds")
    axes.set_yscale("log")
    axes.legend(loc="upper right")
    figure.savefig(path)
