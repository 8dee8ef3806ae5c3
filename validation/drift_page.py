"""Renders a drift report as one HTML page without external resources."""

from html import escape

import numpy as np

from stillpoint.html_page import document, svg
from validation.drift import DriftMeasure
from validation.drift_run import DriftReport

_RED = "<tr class='red'>"


def page(report: DriftReport) -> str:
    """Return a report as one self-contained HTML page: drifted features with plots, then all measures."""
    beyond = f"{len(report.drifted)} measures beyond their limits"
    verdict = "no drift" if report.passed else beyond if report.compared else "nothing to compare, which is not a pass"
    word = "green" if report.passed else "red"
    parts = [
        f"<h1>Drift: <span class='{word}'>{escape(verdict)}</span></h1>",
        f"<p>Against snapshot {escape(report.snapshot_id)}, {report.at:%Y-%m-%d %H:%M} UTC.</p>",
    ]
    for sample, one in report.drifted:
        parts.append(
            f"<h2>{escape(one.feature)} ({escape(sample)}): {one.measure} {one.value:.3f}, limit {one.limit:g}</h2>"
        )
        if one.labels:
            parts.append(f"<figure>{_plot(one)}</figure>")
    parts.append("<h2>All measures</h2><table><tr><th>sample<th>feature<th>measure")
    parts.append("<th class='number'>value<th class='number'>limit")
    parts += [
        f"{_RED if one.drifted else '<tr>'}<td>{escape(sample)}<td>{escape(one.feature)}<td>{one.measure}"
        f"<td class='number'>{one.value:.4f}<td class='number'>{one.limit:g}"
        for sample, one in _furthest_first(report)
    ]
    counts = ", ".join(f"{escape(name)} {count:,}" for name, count in report.rows.items())
    return document(f"Drift: {verdict}", "\n".join([*parts, f"</table><p>Rows: {counts}.</p>"]))


def _furthest_first(report: DriftReport) -> list[tuple[str, DriftMeasure]]:
    every = [(sample, one) for sample, measures in report.moved.items() for one in measures]
    return sorted(every, key=lambda each: -each[1].value / each[1].limit)


def _plot(one: DriftMeasure) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(one.labels))
    axes.bar(place - 0.2, one.before, 0.4, label="snapshot", color="tab:gray")
    axes.bar(place + 0.2, one.after, 0.4, label="now", color="tab:red")
    axes.set_xticks(place, one.labels, rotation=30, ha="right", fontsize=8)
    axes.set_title(f"shares of {one.feature}")
    axes.legend(frameon=False)
    return svg(figure)
