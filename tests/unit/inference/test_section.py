"""A recommendation is shown alike whoever made it, and as its schema says."""

import pytest

from inference.http.schemas import Section
from inference.predictions.predict import Source
from inference.predictions.section import section
from stillpoint.messages import Item

ITEMS = [Item(content_id=f"c{n}", title=f"Title {n}", category="sleep", score=1.5 - n) for n in range(3)]


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("items", [ITEMS, ITEMS[:1], []])
def test_a_section_is_as_its_schema_says(source: Source, items: list[Item]) -> None:
    shown = section("a" * 32, source, "r0001", items, age_seconds=2.5)
    assert Section.model_validate(shown).model_dump(mode="json") == shown
    assert list(shown) == list(Section.model_fields)
    assert shown["items"] == [item.model_dump() for item in items]
