"""What is drawn escapes every text, and says in words what a plot shows."""

import re

from hypothesis import given
from hypothesis import strategies as st

from console.drawing.charts import pushes, sparkline, two_distributions
from console.drawing.html import Markup, join, tag
from console.drawing.parts import Column, prose, table
from console.drawing.words import share


@given(st.text())
def test_no_text_becomes_markup(text):
    drawn = tag("p", text, title=text, data_key=text)
    assert re.findall(r"<[^>]*>", drawn.replace(f'"{_attribute(text)}"', '""')) == ['<p title="" data-key="">', "</p>"]
    assert join(text, Markup("<b>")).endswith("<b>")


def _attribute(text):
    return (
        text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&quot;")
        .replace("'", "&#x27;")
    )


def test_an_attribute_that_is_not_is_left_out_and_a_true_one_stands_alone():
    assert tag("input", name="q", required=True, disabled=False, value=None) == '<input name="q" required>'


def test_a_table_names_each_cell_for_narrow_windows_and_its_caption_for_those_who_do_not_see():
    drawn = table(["a", Column("b", wide=True)], [["1", "<2>"]], "Numbers")
    assert 'data-label="b"' in drawn
    assert "&lt;2&gt;" in drawn
    assert drawn.count("Numbers") == 2


def test_words_between_backticks_are_code():
    assert prose("run `x <y>` now") == "run <code>x &lt;y&gt;</code> now"


def test_a_line_of_too_few_values_says_so_and_a_gap_stays_a_gap():
    assert "not enough" in sparkline([None, 1.0], "Rate")
    drawn = sparkline([1.0, 2.0, None, 4.0, 1.0], "Rate")
    assert drawn.count('class="line"') == 2
    assert "highest 4" in drawn


def test_plots_say_their_numbers():
    assert "+0.50" in pushes([("search", 0.5), ("age", -1.0)], "Why")
    assert "a 50.0 % and 100 %" in two_distributions(["a"], [0.5], [1.0], ("before", "after"), "Values")
    assert share(None) == "–"
