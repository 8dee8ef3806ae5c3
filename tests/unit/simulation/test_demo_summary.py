"""What the demo sums up fits 80 columns, and neither a line nor a page's place is broken by us."""

from io import StringIO

import pytest
from rich.console import Console

from simulation.demo.summary import Summary, load_lines, print_whole, show, step_lines
from simulation.demo.watch import LoadTally, StoryResult

TOLD = StoryResult({}, {}, {}, {}, accepted_ms=4.2, readable_ms=12_476.0, stored_ms=12_603.4)
TALLY = LoadTally(
    requests=3097, failed=1, mixed=2, releases={"r0001": 2930, "r0002": 167}, milliseconds=[5.0, 6.3, 9.0]
)
PLACE = "/a/home/of/a/user/with/long/names/of/folders/.stillpoint/pages/check-r0001-20261128T154900Z.html"


def shown(width: int | None) -> list[str]:
    summary = Summary(
        stages=[("compute features of history, by the stream's own definition, and then some more", 6.84)],
        stories=[("Three abandoned sleep stories", TOLD)],
        pages={"what the gate found of r0001": PLACE},
    )
    sink = StringIO()
    show(Console(file=sink, width=width), summary, TALLY)
    return sink.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, None], ids=["terminal", "file"])
def test_the_tables_fit_and_the_pages_place_stands_whole(width: int | None) -> None:
    lines = shown(width)
    assert [line for line in lines if len(line) > 80] == [f"  {PLACE}  # what the gate found of r0001"]
    text = "\n".join(lines)
    assert [line.split()[-3:] for line in lines if "Three abandoned" in line] == [["4", "12,476", "12,603"]]
    assert [line.split() for line in lines if line.startswith("3,097")] == [["3,097", "1", "2", "0"]]
    assert "6,840" in text


def test_a_note_that_is_too_long_has_a_line_of_its_own() -> None:
    assert len(step_lines("train", 14.2, "101,540 rows")) == 1
    first, second = step_lines("compute features of history, by the stream's own definition", 6.8, "70,411 rows [all]")
    assert "rows" not in first
    sink = StringIO()
    print_whole(Console(file=sink, width=20), [first, second])
    assert sink.getvalue().splitlines() == [
        "✓ compute features of history, by the stream's own definition 6.8 s",
        "  70,411 rows [all]",
    ]


def test_a_load_without_an_answer_is_told_too() -> None:
    assert "no answer" in load_lines(LoadTally(requests=1, failed=1))[0]
