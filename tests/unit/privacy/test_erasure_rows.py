"""A user's id is found where it stands as a word, and no other id is taken for it."""

import pytest

from privacy.erasure.rows import mentions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("u1", True),
        ('{"user_id": "u1"}', True),
        ("nothing is known of u1.", True),
        ("u1: 1 instead of 2", True),
        ("<td>u1</td>", True),
        ("stillpoint:rec:u1:today", True),
        ("u10", False),
        ("xu1", False),
        ("u1-b", False),
        ("u1.b@example.com", False),
        ("a.u1", False),
        ("u1@example.com", False),
    ],
)
def test_an_id_is_found_as_a_whole_word(text, found):
    assert (mentions("u1").search(text.encode()) is not None) == found
