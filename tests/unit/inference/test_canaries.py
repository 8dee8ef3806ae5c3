"""A serving process notices by its canaries that users have another user's row."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from inference.live.canaries import CanaryReport, CanaryWatch
from stillpoint.errors import StackUnavailable
from stillpoint.releases.canaries import Canary

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ROWS: dict[str, tuple[int | None, int | None]] = {"ann": (4, 2), "bob": (7, 2), "cid": (9, 2)}


class Colour:
    """A reader of rows that a test may turn round; `away` stands for Redis."""

    def __init__(self) -> None:
        self.rows = dict(ROWS)
        self.away = False

    def read(self, features: Sequence[str], entities: Mapping[str, Sequence[str]], *, now_us: int) -> Any:
        if self.away:
            raise StackUnavailable("Redis does not answer")
        found = [self.rows[user] for user in entities["user_id"]]
        values = {"sequence_id": [row[0] for row in found], "mapping_version": [row[1] for row in found]}
        return SimpleNamespace(values=values.__getitem__)


def watch(colour: Colour, canaries: Sequence[Canary]) -> tuple[CanaryWatch, list[CanaryReport]]:
    loaded: Any = SimpleNamespace(
        id="r0001", reader=colour, canaries=tuple(canaries), release=SimpleNamespace(mapping_version=2)
    )
    reports: list[CanaryReport] = []
    return CanaryWatch(lambda: loaded, lambda: NOW, reports.append), reports


CANARIES = [Canary("ann", 4), Canary("bob", 7), Canary("cid", 9)]


def test_canaries_that_resolve_to_themselves_are_right() -> None:
    watching, reports = watch(Colour(), CANARIES)
    watching.step()
    assert reports == [CanaryReport("r0001", 3, (), 0)] == [watching.last]


def test_two_users_who_changed_places_are_told_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    colour = Colour()
    colour.rows |= {"ann": ROWS["bob"], "bob": ROWS["ann"]}
    watching, reports = watch(colour, CANARIES)
    with caplog.at_level(logging.ERROR):
        watching.step()
        watching.step()
    assert [len(report.wrong) for report in reports] == [2, 2]
    (line,) = caplog.messages
    assert line.startswith("2 of 3 canaries of r0001 are wrong")
    assert "ann: sequence id 7 of mapping 2, expected 4 of mapping 2; roll back" in line


def test_a_row_of_another_mapping_is_wrong_even_if_its_number_fits() -> None:
    colour = Colour()
    colour.rows["cid"] = (9, 1)
    watching, reports = watch(colour, CANARIES)
    watching.step()
    assert reports[0].wrong == ("cid: sequence id 9 of mapping 1, expected 9 of mapping 2",)


def test_an_erased_canary_is_missing_and_not_wrong() -> None:
    colour = Colour()
    colour.rows["bob"] = (None, None)
    watching, reports = watch(colour, CANARIES)
    watching.step()
    assert reports == [CanaryReport("r0001", 3, (), 1)]


def test_an_outage_keeps_the_last_report_and_a_release_without_canaries_is_none_of_them() -> None:
    colour = Colour()
    watching, reports = watch(colour, CANARIES)
    watching.step()
    colour.away = True
    watching.step()
    assert len(reports) == 1
    assert watching.last == reports[0]
    empty, none = watch(colour, [])
    empty.step()
    assert none == [CanaryReport("r0001", 0, (), 0)]
