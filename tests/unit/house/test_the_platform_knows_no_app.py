"""The platform's rooms hold no word of the app; the files that still do are listed, and the list may only shrink."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from stillpoint.app.events import ENVELOPE
from stillpoint.app.fields import fields_of
from stillpoint.served_rows import SERVED_COLUMNS
from tests.support.wellness import APP

ROOT = Path(__file__).parents[3]
ROOMS = ("stillpoint", "ingestion", "training", "release", "inference", "validation", "privacy")
LISTED = Path(__file__).with_name("holds_words_of_the_app.txt")
OURS = {*ENVELOPE, *SERVED_COLUMNS.names, "surface", "impression"}
"""Words of every app: what all events carry, the platform's log of what was served, and what says that it was shown."""

COMMON = {"new", "steps", "move", "query"}
"""English words that the platform also uses in another sense: a step of a release, a move of the pointer, a query of HTTP."""


def words() -> set[str]:
    """The app's event types, fields, views, features, and the values of its closed sets."""
    found = {event.type_name for event in APP.events}
    for event in APP.events:
        for name, one in fields_of(event).items():
            if name not in OURS:
                found |= {name, *(one.values or ())}
    for view in APP.features.stored:
        found |= {view.name, *view.feature_names}
        for feature in view:
            found |= set(feature.values or ())
    found |= {one.name for one in APP.request_features}
    return found - OURS - COMMON


def tokens(path: Path) -> Iterator[tokenize.TokenInfo]:
    yield from tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)


def held(path: Path, long: "re.Pattern[str]", short: set[str]) -> set[str]:
    """Return the words that a file holds: a word of several parts anywhere, a short one as the whole of a text."""
    found = set(long.findall(path.read_text(encoding="utf-8")))
    for token in tokens(path):
        if token.type == tokenize.STRING and token.string.strip("rbf\"'") in short:
            found.add(token.string.strip("rbf\"'"))
    return found


def test_only_listed_files_hold_a_word_of_the_app() -> None:
    told = words()
    assert {"content_start", "heart_rate_bpm", "session_bounce_rates", "tenure_level", "sleep"} <= told
    short = {word for word in told if "_" not in word}
    long = re.compile(rf"(?<![a-z0-9_])(?:{'|'.join(sorted(told - short))})(?![a-z0-9_])")
    holding = {
        path.relative_to(ROOT).as_posix(): sorted(held(path, long, short))
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
    }
    holding = {path: found for path, found in holding.items() if found}
    listed = set(LISTED.read_text(encoding="utf-8").split())
    more = {path: found for path, found in holding.items() if path not in listed}
    assert not more, "a file of the platform holds words of the app; declare them in the app's folder"
    assert sorted(listed - set(holding)) == [], "these hold none any more: take them off the list"
