"""The gate's report as one HTML file that fetches nothing."""

import html as escape
import io
from collections.abc import Sequence

from release.gate import CheckResult, Report

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c2430 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .45rem .6rem;
border-bottom: 1px solid #dde2ea } .green { color: #17703a } .red { color: #b3261e; font-weight: 600 }
figure { margin: 1.5rem 0 } svg { max-width: 100%; height: auto } code { background: #f2f4f7; padding: 0 .25rem }
"""


def html(report: Report) -> str:
    """Return the report as one HTML page, what failed first; every text from outside is escaped."""
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
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Gate of {say(report.release)}</title>"
        f"<style>{_STYLE}</style><h1>Release {say(report.release)}{against}: <span class='{verdict}'>{verdict}</span></h1>"
        f"<p>{report.at:%Y-%m-%d %H:%M:%S} UTC by {say(report.by)}</p>"
        "<table><tr><th>check</th><th>result</th><th>found</th><th>expected</th></tr>"
        f"{rows}</table>{examples}{''.join(_figures(results))}</html>\n"
    )


def _figures(results: Sequence[CheckResult]) -> list[str]:
    figures = []
    for result in results:
        numbers = {name: value for name, value in result.numbers.items() if value is not None}
        if result.series or len(numbers) > 2:
            figures.append(f"<figure>{_plot(result, numbers)}</figure>")
    return figures


def _plot(result: CheckResult, numbers: dict[str, float]) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    if any(result.series.values()):
        for name, values in result.series.items():
            axes.hist(values, bins=40, label=name, color="#3b6ea5")
            axes.set_xlabel(name)
    else:
        axes.barh(list(numbers), list(numbers.values()), color="#3b6ea5")
    axes.set_title(result.name)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue().partition("<svg")[1] + out.getvalue().partition("<svg")[2]
