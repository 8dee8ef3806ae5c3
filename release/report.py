"""Renders the gate's report as one HTML file without external resources."""

import html as escape
from collections.abc import Sequence

from release.gate import CheckResult, Report
from stillpoint.html_page import document, svg


def html(report: Report) -> str:
    """Return the report as one HTML page, failed checks first; all foreign text is escaped."""
    say = escape.escape
    results = sorted(report.results, key=lambda one: one.passed)
    verdict = "green" if report.passed else "red"
    rows = "".join(
        f"<tr><td>{say(result.name)}</td><td class='{'green' if result.passed else 'red'}'>"
        f"{'passed' if result.passed else 'failed'}</td><td>{say(result.found)}</td><td>{say(result.expected)}</td></tr>"
        for result in results
    )
    examples = "".join(
        f"<h3>{say(result.name)}: examples</h3><ul>"
        + "".join(f"<li><code>{say(one)}</code></li>" for one in result.examples)
        + "</ul>"
        for result in results
        if result.examples
    )
    against = f" against {say(report.against)}" if report.against else ""
    return document(
        f"Gate of {report.release}",
        f"<h1>Release {say(report.release)}{against}: <span class='{verdict}'>{verdict}</span></h1>"
        f"<p>{report.at:%Y-%m-%d %H:%M:%S} UTC by {say(report.by)}</p>"
        "<table><tr><th>check</th><th>result</th><th>found</th><th>expected</th></tr>"
        f"{rows}</table>{examples}{''.join(_figures(results))}",
    )


def _figures(results: Sequence[CheckResult]) -> list[str]:
    figures = []
    for result in results:
        numbers = {name: value for name, value in result.numbers.items() if value is not None}
        if result.series or len(numbers) > 2:
            figures.append(f"<figure>{_plot(result, numbers)}</figure>")
    return figures


def _plot(result: CheckResult, numbers: dict[str, float]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.add_subplot()
    if any(result.series.values()):
        for name, values in result.series.items():
            axes.hist(values, bins=40, label=name, color="#3b6ea5")
            axes.set_xlabel(name)
    else:
        axes.barh(list(numbers), list(numbers.values()), color="#3b6ea5")
    axes.set_title(result.name)
    return svg(figure)
