"""The page of expectations says what is red first, escapes what it quotes, and fetches nothing."""

import re
from datetime import UTC, datetime

from validation.outcome import Finding, outcome
from validation.page import page

AT = datetime(2026, 3, 1, tzinfo=UTC)


def finding(passed, example="1"):
    return Finding(
        check="c",
        column="rate",
        expected="at most 1",
        passed=passed,
        checked=9,
        unexpected=0 if passed else 2,
        examples=(example,),
    )


def test_red_comes_first_and_texts_are_escaped():
    shown = page([outcome("good", AT, 9, [finding(True)]), outcome("bad", AT, 9, [finding(False, "<script>")])])
    assert "1 of 2 are red" in shown
    assert shown.index("bad") < shown.index("good")
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert not re.search(r"(src|href)=|url\(|@import|https?:", shown)
    assert "<title>Expectations: 1 of 2 are red</title>" in shown
    assert shown.count("<details open>") == 1, "what holds is folded"


def test_nothing_validated_is_not_green():
    assert "<span class='red'>nothing was checked</span>" in page([])
    assert "<span class='green'>all hold</span>" in page([outcome("good", AT, 9, [finding(True)])])
    assert "found none" in page([outcome("empty", AT, 0, [])])
