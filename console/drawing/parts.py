"""The console's components: panels, tables, facts, badges, sentences. One set, used by every page. (pure)"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from console.drawing.html import Child, Markup, join, tag


class Tone(StrEnum):
    """What a badge or a sentence says before it is read."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    QUIET = "quiet"
    ACCENT = "accent"


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; numbers stand to the right. `wide` lets long texts wrap."""

    name: str
    number: bool = False
    wide: bool = False


def panel(title: str, *body: Child, note: Child = None, aside: Child = None, key: str | None = None) -> Markup:
    """Return a section with its heading."""
    head = tag("header", tag("h2", title), tag("p", note, class_="note") if note else None, aside)
    return tag("section", head, *body, class_="panel", data_key=key)


def columns(*parts: Child, narrow: bool = False) -> Markup:
    """Return parts side by side, where there is room."""
    return tag("div", *parts, class_="columns narrow" if narrow else "columns")


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Return names and what they stand for."""
    return tag("dl", ((tag("div", tag("dt", name), tag("dd", told))) for name, told in pairs), class_="facts")


def table(heads: Sequence[Column | str], rows: Iterable[Sequence[Child]], caption: str) -> Markup:
    """Return a table that scrolls within itself when it is too wide; `caption` is for those who cannot see it."""
    named = [one if isinstance(one, Column) else Column(one) for one in heads]
    head = tag("tr", (tag("th", one.name, scope="col", class_=_class(one)) for one in named))
    folds = any(one.wide for one in named)
    body = (
        tag(
            "tr",
            (
                tag("td", tag("div", cell) if folds else cell, class_=_class(one), data_label=one.name)
                for one, cell in zip(named, row, strict=True)
            ),
        )
        for row in rows
    )
    whole = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", head),
        tag("tbody", body),
        class_="folds" if folds else None,
    )
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def badge(text: str, tone: Tone = Tone.QUIET) -> Markup:
    """Return a word with a tone."""
    return tag("span", text, class_=f"badge {tone}")


def figure(label: str, number: Child, unit: str = "", below: Child = None) -> Markup:
    """Return one large number with its label, and what belongs below it."""
    told = tag("span", number, tag("small", f" {unit}") if unit else None, class_="number")
    return tag("div", tag("span", label, class_="label"), told, below, class_="figure")


def figures(*parts: Child) -> Markup:
    """Return a row of large numbers."""
    return tag("div", *parts, class_="figures")


def under(text: Child) -> Markup:
    """Return quiet words beside a name; below it where there is little room."""
    return tag("small", text, class_="under")


def empty(*sentence: Child) -> Markup:
    """Return what is said where there is nothing to show."""
    return tag("p", *sentence, class_="empty")


def note(*sentence: Child) -> Markup:
    """Return a quiet sentence."""
    return tag("p", *sentence, class_="note")


def alarm(sentence: Child, advice: Child = None, *, tone: Tone = Tone.BAD) -> Markup:
    """Return what is wrong, and what to do."""
    return tag("div", tag("p", sentence), tag("p", advice, class_="advice") if advice else None, class_=f"alarm {tone}")


def link(text: Child, to: str) -> Markup:
    """Return a link within the console."""
    return tag("a", text, href=to)


def code(text: str) -> Markup:
    """Return a word of the machine; `·` between backticks would be prose."""
    return tag("code", text)


def prose(text: str) -> Markup:
    """Return a sentence in which words between backticks are code."""
    return join(code(part) if place % 2 else part for place, part in enumerate(text.split("`")))


def colour_name(colour: str) -> Markup:
    """Return a release colour with its dot."""
    return tag("span", colour, class_=f"colour {colour}")


def folded(summary: Child, *body: Child, key: str | None = None) -> Markup:
    """Return what is shown when it is asked for."""
    return tag("details", tag("summary", summary), *body, data_key=key)


def _class(one: Column) -> str | None:
    return "number" if one.number else "wide" if one.wide else None
