"""How does drift read in a browser, in one file that fetches nothing?"""

import base64
import io
from collections.abc import Iterator
from html import escape

import numpy as np

from validation.drift import Moved
from validation.drift_run import DriftReport

_STYLE = (
    "<style>body{font:15px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "td,th{padding:.2rem .8rem;text-align:left}.bad{color:#b00020;font-weight:bold}img{max-width:100%}</style>"
)


def page(report: DriftReport) -> str:
    """Return a report as one HTML page that needs nothing else: what drifted, with plots, then all measures."""
    beyond = f"{len(report.drifted)} measures beyond their limits"
    verdict = "no drift" if report.passed else beyond if report.compared else "nothing to compare, which is not a pass"
    parts = [
        "<!doctype html><meta charset=utf-8><title>Drift</title>",
        _STYLE,
        f"<h1>Drift: {escape(verdict)}</h1>",
        f"<p>Against snapshot {escape(report.snapshot_id)}, {report.at:%Y-%m-%d %H:%M} UTC.</p>",
    ]
    for sample, one in report.drifted:
        parts.append(
            f"<h2>{escape(one.feature)} ({escape(sample)}): {one.measure} {one.value:.3f}, limit {one.limit}</h2>"
        )
        if one.labels:
            parts.append(f'<img alt="shares of {escape(one.feature)} before and after" src="{_plot(one)}">')
    parts.append("<h2>All measures</h2><table><tr><th>sample<th>feature<th>measure<th>value<th>limit")
    parts += [
        f"<tr{' class=bad' if one.drifted else ''}><td>{escape(sample)}<td>{escape(one.feature)}<td>{one.measure}"
        f"<td>{one.value:.4f}<td>{one.limit}"
        for sample, one in _all(report)
    ]
    return "\n".join([*parts, "</table>\n"])


def _all(report: DriftReport) -> Iterator[tuple[str, Moved]]:
    for sample, measures in report.moved.items():
        for one in sorted(measures, key=lambda each: -each.value / each.limit):
            yield sample, one


def _plot(one: Moved) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    place = np.arange(len(one.labels))
    axes.bar(place - 0.2, one.before, 0.4, label="snapshot", color="tab:gray")
    axes.bar(place + 0.2, one.after, 0.4, label="now", color="tab:red")
    axes.set_xticks(place, one.labels, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("share")
    axes.legend(frameon=False)
    sink = io.BytesIO()
    figure.savefig(sink, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(sink.getvalue()).decode()
