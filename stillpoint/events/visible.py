"""Recognises texts in which nothing is visible, and which are treated as empty. (pure)

Besides white space, Unicode has other invisible characters: zero-width characters, direction marks, Hangul fillers, an
empty braille pattern.
"""

import re
import unicodedata

_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Cs", "Zl", "Zp", "Zs"})
"""Control and format characters, what is not assigned, halves of surrogate pairs, and white space."""

_PLAIN = re.compile(r"[!-~]")

_UNSEEN = frozenset(
    [
        "\u034f",  # combining grapheme joiner
        "\u115f",  # fillers of Hangul
        "\u1160",
        "\u17b4",  # inherent vowels of Khmer
        "\u17b5",
        *map(chr, range(0x180B, 0x1810)),  # variation selectors of Mongolian
        "\u2800",  # the braille pattern without a dot
        "\u3164",
        *map(chr, range(0xFE00, 0xFE10)),  # variation selectors
        "\uffa0",
        "\U00013441",  # blanks of hieroglyphs
        "\U00013442",
        "\U00016fe4",  # filler of the Khitan script
        "\U0001d159",  # the note without a head
        *map(chr, range(0xE0100, 0xE01F0)),  # more variation selectors
    ]
)
"""Of other categories: the code points that Unicode says to ignore where they cannot be shown (Default_Ignorable_Code_Point in
DerivedCoreProperties.txt), and those whose glyph is empty."""


def is_blank(text: str) -> bool:
    """Return whether nothing of a text is visible. A combining mark alone, such as an accent, is visible."""
    if _PLAIN.search(text):  # nearly every text; the others are looked at letter by letter
        return False
    return all(letter in _UNSEEN or unicodedata.category(letter) in _UNSEEN_CATEGORIES for letter in text)
