"""The table of `stillpoint features` keeps every name whole below its view, so that no two rows look alike, at any width."""

from io import StringIO

import pytest
from rich.console import Console

from inference.cli import features_table

VIEWS = {"search_activity": 90.0, "play_activity": 1_234_567.8, "user_taste": 8_000.0, "biometrics": None}
NAMES = (
    "count_10m",
    "search_embedding_sum_30d",
    "completion_rate_of_started_plays_1h",
    "completion_rate_of_started_plays_2h",
)


def shown(width: int) -> list[list[str]]:
    """Return the cells of the table's rows; those of a folded row are put together."""
    rows = [
        (f"{view}:{name}", [0.1234] * 300 if "sum" in name else 7, "PRESENT", age)
        for view, age in VIEWS.items()
        for name in NAMES
    ]
    sink = StringIO()
    Console(file=sink, width=width, force_terminal=False).print(features_table("u00001 in green (r0001)", rows))
    found: list[list[str]] = []
    for line in sink.getvalue().splitlines():
        if line.startswith("│"):
            cells = [cell[1:-1] for cell in line.strip("│").split("│")]
            begins = cells[2].startswith("P") or cells[0].strip() in VIEWS
            if begins:
                found.append(["", "", ""])
            found[-1] = [before + cell.strip() for before, cell in zip(found[-1], cells, strict=True)]
    return found


@pytest.mark.parametrize("width", [52, 60, 80, 100, 200])
def test_names_are_wrapped_and_never_cut(width: int) -> None:
    wanted = [name for view in VIEWS for name in (view, *NAMES)]
    assert [row[0] for row in shown(width)] == wanted


def test_a_view_tells_how_old_its_values_are() -> None:
    told = {row[0]: row[1] for row in shown(80) if row[0] in VIEWS}
    assert told == {"search_activity": "90.0 s old", "play_activity": "14.3 days old", "user_taste": "2.2 h old", "biometrics": ""}  # fmt: skip
