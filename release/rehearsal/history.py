"""The history of a rehearsal: what was moved and what was answered, when, and what is right by the records.

A history is all that the judge reads. As a file it is JSON, one object per line: `release` (a release's identity and the
right scores of its canaries), `start` (what was live before the first move), `move` and `answer`. Times are seconds since
the load began.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Scores = Mapping[str, float]
"""Score per content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseIdentity:
    """What a release is made of, by its record, and how it ranks for each of its canaries."""

    mapping_version: int
    read_plan_sha256: str
    models: Mapping[str, str]
    scores: Mapping[str, Scores] = field(default_factory=dict)
    """Score per content, by user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedMove:
    """A switch or rollback to `release`: from its first step to the last worker's acknowledgement.

    `hanging` names the workers that never acknowledged; they may go on answering with what they have.
    """

    release: str
    generation: int
    began: float
    ended: float
    hanging: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """One recorded response: from when its request was first sent to when the response had arrived.

    `seconds` is the time of the attempt that was answered.
    """

    began: float
    ended: float
    seconds: float
    user_id: str
    status: int
    error: str | None = None
    retried: bool = False
    answered_user: str | None = None
    releases: tuple[str, ...] = ()
    """Every release that the answer names: header, body, sections, digests."""
    generation: int | None = None
    mapping_version: int | None = None
    read_plan_sha256: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    scores: Scores = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalHistory:
    """All that the judge knows. `start` is the generation and release that were live before the first move."""

    releases: Mapping[str, ReleaseIdentity]
    start: tuple[int, str]
    moves: Sequence[RecordedMove] = ()
    answers: Sequence[RecordedAnswer] = ()


def write_lines(history: RehearsalHistory) -> Iterator[str]:
    """Yield the history as lines of JSON, without line ends."""
    generation, release = history.start
    for name, identity in history.releases.items():
        yield _line("release", {"release": name, **asdict(identity)})
    yield _line("start", {"generation": generation, "release": release})
    for move in history.moves:
        yield _line("move", asdict(move))
    for answer in history.answers:
        yield _line("answer", asdict(answer))


def read_lines(lines: Iterable[str]) -> RehearsalHistory:
    """Read back what `write_lines` wrote.

    Raises:
        ValueError: a line is no such object; the text names the line.
    """
    releases: dict[str, ReleaseIdentity] = {}
    start: tuple[int, str] | None = None
    moves: list[RecordedMove] = []
    answers: list[RecordedAnswer] = []
    for number, line in enumerate(lines, 1):
        try:
            given: dict[str, Any] = json.loads(line)
            match given.pop("line"):
                case "release":
                    name = given.pop("release")
                    releases[name] = ReleaseIdentity(**given)
                case "start":
                    start = (given["generation"], given["release"])
                case "move":
                    moves.append(RecordedMove(**given | {"hanging": tuple(given["hanging"])}))
                case "answer":
                    answers.append(RecordedAnswer(**given | {"releases": tuple(given["releases"])}))
                case other:
                    raise ValueError(f"unknown kind of line {other!r}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"line {number} is no part of a rehearsal's history: {error}") from None
    if start is None:
        raise ValueError("the history does not say what was live at its start (no line `start`)")
    return RehearsalHistory(releases=releases, start=start, moves=moves, answers=answers)


def _line(kind: str, values: dict[str, Any]) -> str:
    return json.dumps({"line": kind, **values}, separators=(",", ":"), allow_nan=False)
