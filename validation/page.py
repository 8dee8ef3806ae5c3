"""How do expectations read in a browser, in one file that fetches nothing?

Great Expectations' own Data Docs load their style from the web; this page says the same from the same results, offline.
"""

from collections.abc import Sequence
from html import escape

from stillpoint.html_page import document
from validation.outcome import Outcome


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as one HTML page, what is broken first; every text from outside is escaped."""
    red = sum(not outcome.passed for outcome in outcomes)
    verdict = "all expectations hold" if outcomes and not red else f"{red} of {len(outcomes)} are red"
    parts = [f"<h1>Expectations: <span class='{'red' if red else 'green'}'>{verdict}</span></h1>"]
    for outcome in sorted(outcomes, key=lambda one: one.passed):
        word = "green" if outcome.passed else "red"
        parts.append(f"<h2>{escape(outcome.subject)}: <span class='{word}'>{word}</span></h2>")
        parts.append(f"<p>{outcome.rows:,} rows, {outcome.at:%Y-%m-%d %H:%M:%S} UTC</p>")
        parts.append("<table><tr><th>column<th>expected<th>checked<th>break it<th>for example")
        for finding in sorted(outcome.findings, key=lambda one: one.passed):
            examples = escape(finding.note or ", ".join(finding.examples[:3]))
            parts.append(
                f"<tr class='{'' if finding.passed else 'red'}'><td>{escape(finding.column or '')}"
                f"<td>{escape(finding.expected)}<td>{finding.checked:,}<td>{finding.unexpected:,}<td>{examples}"
            )
        parts.append("</table>")
    return document("Expectations", "\n".join(parts))
