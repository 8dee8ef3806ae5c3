"""A property draws no more examples than it is let, and all that it asks for where it is let."""

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import EXAMPLES, draw_at_most


@pytest.mark.parametrize(("asked", "let", "drawn"), [(60, "few", 20), (60, "some", 40), (60, "all", 60), (5, "few", 5)])
def test_a_property_draws_at_most_what_it_is_let(asked: int, let: str, drawn: int) -> None:
    counted: list[int] = []

    @settings(max_examples=asked, database=None, deadline=None)
    @given(st.integers())
    def prop(number: int) -> None:
        counted.append(number)

    draw_at_most([cast("pytest.Item", SimpleNamespace(obj=prop)), cast("pytest.Item", object())], EXAMPLES[let])
    prop()
    assert len(counted) == drawn
