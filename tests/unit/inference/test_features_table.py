"""The table of `stillpoint features` keeps every name whole, so that no two rows look alike, at any width."""

from io import StringIO

import pytest
from rich.console import Console

from inference.cli import features_table

NAMES = [f"{view}:{feature}" for view in ("search_activity", "play_activity") for feature in
         ("count_10m", "search_embedding_sum_30d", "completion_rate_of_started_plays_1h", "completion_rate_of_started_plays_2h")]  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_names_are_wrapped_and_never_cut(width: int) -> None:
    rows = [(name, [0.1234] * 300 if "sum" in name else 7, "PRESENT", 1_234_567.8) for name in NAMES]
    sink = StringIO()
    Console(file=sink, width=width, force_terminal=False).print(features_table("u00001 in green (r0001)", rows))
    shown: list[str] = []
    for line in sink.getvalue().splitlines():
        if line.startswith("│"):
            first, _, status, _ = (cell.strip() for cell in line.strip("│").split("│"))
            if status.startswith("P"):
                shown.append("")
            shown[-1] += first
    assert shown == NAMES
