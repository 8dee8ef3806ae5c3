"""Renders validation results as one HTML page without external resources.

Great Expectations' own Data Docs load their style from the web; this page says the same from the same results, offline.
"""

from collections.abc import Sequence
from html import escape

from stillpoint.html_page import document
from validation.outcome import ValidationResult


def page(outcomes: Sequence[ValidationResult]) -> str:
    """Return the results as one HTML page, failures first and unfolded; all foreign text is escaped."""
    red = sum(not outcome.passed for outcome in outcomes)
    good = bool(outcomes) and not red
    verdict = "all hold" if good else f"{red} of {len(outcomes)} are red" if outcomes else "nothing was checked"
    parts = [f"<h1>Expectations: <span class='{'green' if good else 'red'}'>{verdict}</span></h1>"]
    for outcome in sorted(outcomes, key=lambda one: one.passed):
        word, broken = "green" if outcome.passed else "red", len(outcome.failures())
        said = f"{broken} of {len(outcome.findings)} broken" if broken else f"{len(outcome.findings)} expectations hold"
        parts.append(f"<h2>{escape(outcome.subject)}: <span class='{word}'>{word}</span></h2>")
        parts.append(f"<details{'' if outcome.passed else ' open'}>")
        parts.append(f"<summary>{outcome.rows:,} rows, {said}, {outcome.at:%Y-%m-%d %H:%M:%S} UTC</summary>")
        parts.append(
            "<table><tr><th>column<th>expected<th class='number'>checked<th class='number'>break it<th>for example"
        )
        for finding in sorted(outcome.findings, key=lambda one: one.passed):
            row = "<tr>" if finding.passed else "<tr class='red'>"
            parts.append(
                f"{row}<td>{escape(finding.column or '')}<td>{escape(finding.expected)}"
                f"<td class='number'>{finding.checked:,}<td class='number'>{finding.unexpected:,}"
                f"<td>{escape(finding.note or ', '.join(finding.examples[:3]))}"
            )
        parts.append("</table></details>")
    return document(f"Expectations: {verdict}", "\n".join(parts))
