"""Says whether a text shows anything: letters, digits, signs or pictures, and not only blanks of some kind (pure).

Unicode has blanks that are no white space: zero-width characters, marks of direction, fillers of Hangul, an empty braille
pattern. Whoever sees the text sees nothing, so it says as much as an empty one.
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
    """Say whether nothing of a text can be seen. A mark that stands alone, such as an accent, is seen."""
    if _PLAIN.search(text):  # nearly every text; the others are looked at letter by letter
        return False
    return all(letter in _UNSEEN or unicodedata.category(letter) in _UNSEEN_CATEGORIES for letter in text)
