"""What the demo has found, in one table at its end: how long each stage took, what the load met, where the pages lie.

Everything fits 80 columns: a longer note goes to a line of its own, a longer cell is cut with an ellipsis.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simulation.demo.watch import LoadTally, StoryResult

WIDTH = 80


@dataclass(slots=True)
class Summary:
    """What is known of a demo so far; filled act by act."""

    stages: list[tuple[str, float]] = field(default_factory=list)
    stories: list[tuple[str, StoryResult]] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)


def step_lines(what: str, seconds: float, note: str | None) -> list[str]:
    """Return the line of a step that is done, in rich's markup, and its note on a second one where both are too long."""
    line = f"[green]✓[/] {escape(what)} [dim]{seconds:.1f} s[/]"
    if note is None:
        return [line]
    shown = cell_len(f"✓ {what} {seconds:.1f} s  {note}")
    return [f"{line}  [dim]{escape(note)}[/]"] if shown <= WIDTH else [line, f"  [dim]{escape(note)}[/]"]


def load_lines(tally: LoadTally) -> list[str]:
    """Return what a load met, in rich's markup."""
    releases = ", ".join(f"{name} {count}" for name, count in sorted(tally.releases.items()))
    median = f"{statistics.median(tally.milliseconds):.1f} ms" if tally.milliseconds else "no answer"
    return [
        f"  requests [bold]{tally.requests}[/], failed [bold]{tally.failed}[/], mixed [bold]{tally.mixed}[/]; p50 {median}",
        f"  answers by release: {releases}",
    ]


def tables(summary: Summary, tally: LoadTally) -> list[Table]:
    """Return the tables of the end."""
    stages = _table("stage", "milliseconds")
    for what, seconds in summary.stages:
        stages.add_row(what, f"{1_000 * seconds:,.0f}")
    stories = _table("story: milliseconds until", "accepted", "readable", "stored")
    for title, told in summary.stories:
        stories.add_row(title, *(f"{ms:,.0f}" for ms in (told.accepted_ms, told.readable_ms, told.stored_ms)))
    load = _table("requests while releases were switched", "failed", "mixed", "fallbacks")
    load.add_row(*(f"{count:,}" for count in (tally.requests, tally.failed, tally.mixed, tally.fallbacks)))
    return [stages, stories, load]


def show(console: Console, summary: Summary, tally: LoadTally) -> None:
    """Print the tables, and each page's place whole on a line of its own."""
    console.print()
    console.rule("In short")
    for table in tables(summary, tally):
        console.print(table)
        console.print()
    print_whole(console, _places(summary.pages), markup=False)


def print_whole(console: Console, lines: Sequence[str], *, markup: bool = True) -> None:
    """Print lines that are never broken by us: who copies one, or reads a log, finds it whole."""
    for line in lines:
        console.print(line, soft_wrap=True, markup=markup, highlight=False)


def _places(pages: Mapping[str, str]) -> list[str]:
    return ["Pages that read offline:", *(f"  {place}  # {about}" for about, place in pages.items())] if pages else []


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", width=WIDTH - 1, expand=False)
    table.add_column(first, ratio=1, no_wrap=True, overflow="ellipsis")
    for one in numbers:
        table.add_column(one, justify="right", no_wrap=True)
    return table
