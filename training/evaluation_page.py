"""Renders a model's evaluation as an HTML page: intervals, by context and by group of users."""

from collections.abc import Mapping
from html import escape
from typing import Any

from stillpoint.html_page import document, svg
from training.evaluate import Estimate
from training.train import AT, Evaluation, worth

SIMULATED = (
    "This behaviour is simulated. Every figure on this page says how well the model predicts the simulator's users, "
    "not real ones."
)
_TITLES = {
    "ranker": "ranker",
    "without_real_time": "ranker without real-time features",
    "collaborative": "collaborative filter alone",
    "popularity": "popularity",
    "item_to_item": "nearest to the last plays",
    "true_preference": "true preference (ceiling)",
}
_COLOURS = ("#3b6ea5", "#d07c1f", "#4e9a51", "#8a8f98", "#b8860b", "#9a4ea5")

Results = Mapping[str, Mapping[str, Mapping[str, Estimate]]]


def page(evaluation: Evaluation, model_sha256: str) -> str:
    """Return an evaluation as one HTML page. The same evaluation gives the same text."""
    rankings = list(evaluation.results["all"])
    parts = [f"<h1>Model {escape(model_sha256[:12])}</h1>"]
    if evaluation.data == "simulated":
        parts.append(f"<p class='note'>{SIMULATED}</p>")
    parts.append(
        f"<p>Snapshot {escape(evaluation.snapshot_id)}: learned from {evaluation.train_rows:,} rows, judged by the "
        f"{evaluation.test_rows:,} latest. Intervals are 95 %, from drawing users with replacement.</p>"
    )
    parts.append(f"<p>{escape(_verdict(evaluation.results['all']))} {escape(worth(evaluation))}.</p>")
    groups: dict[str, list[str]] = {"By context": [], "By gender and locale": []}
    for name in evaluation.results:
        by_user = name.startswith(("gender ", "locale "))
        groups["By gender and locale" if by_user else "By context"].append(name)
    for title, names in groups.items():
        if names:
            parts.append(f"<h2>{title}</h2><figure>{svg(_figure(evaluation.results, names, rankings))}</figure>")
            parts += [_table(evaluation.results, names, rankings, metric) for metric in (f"ndcg@{AT}", f"recall@{AT}")]
    if evaluation.gaps:
        parts.append(
            "<h2>Gaps between groups of users</h2><table><tr><th>attribute<th>NDCG@3 of the best served less the worst"
        )
        parts += [f"<tr><td>{escape(name)}<td>{_shown(gap)}" for name, gap in evaluation.gaps.items()]
        parts.append("</table>")
    parts.append("<h2>Coverage and calibration</h2><table><tr><th>ranking<th>share of contents shown first")
    parts += [
        f"<tr><td>{escape(_TITLES.get(name, name))}<td>{value:.3f}" for name, value in evaluation.coverage.items()
    ]
    parts.append(
        f"</table><p>Mean gap between promised and observed success of the ranker: {evaluation.calibration_error:.4f}.</p>"
    )
    return document(f"Evaluation of model {model_sha256[:12]}", "\n".join(parts))


def _verdict(everybody: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Return a sentence that names the baselines over which the ranker's lift is not significant."""
    weaker = [name for name in everybody if name not in ("ranker", "true_preference")]
    level = [_TITLES.get(name, name) for name in weaker if not everybody[name]["ndcg_lift"].high < 0]
    if not weaker:
        return "The ranker was not compared with baselines."
    return f"NOT better than: {', '.join(level)}." if level else "The ranker beats each baseline beyond chance."


def _table(results: Results, groups: list[str], rankings: list[str], metric: str) -> str:
    heads = "".join(f"<th>{escape(_TITLES.get(name, name))}" for name in rankings)
    rows = "".join(
        f"<tr><td>{escape(group)}<td>{results[group][rankings[0]][metric].lists:,}"
        + "".join(f"<td>{_shown(results[group][name][metric])}" for name in rankings)
        for group in groups
    )
    return f"<table><tr><th>{escape(metric)}<th>lists{heads}{rows}</table>"


def _shown(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" if one.lists else "no list"


def _figure(results: Results, groups: list[str], rankings: list[str]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.55 * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(rankings):
        found = [(place, results[group][name][f"ndcg@{AT}"]) for place, group in enumerate(groups)]
        there = [(place, one) for place, one in found if one.lists]
        axes.errorbar(
            [one.value for _, one in there],
            [place + (number - len(rankings) / 2) * 0.14 for place, _ in there],
            xerr=[[one.value - one.low for _, one in there], [one.high - one.value for _, one in there]],
            fmt="o",
            markersize=4,
            capsize=2,
            color=_COLOURS[number % len(_COLOURS)],
            label=_TITLES.get(name, name),
        )
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.set_xlabel(f"NDCG@{AT}, with 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
