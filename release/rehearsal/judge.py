"""Judges a rehearsal's history: each answer is good, or failed, mixed, another user's, or out of its time.

The judge shares no code with the service: it imports nothing of Stillpoint but the history's format, so that a fault of the
service cannot hide in its judge. `python -m release.rehearsal.judge FILE` judges a kept history again; it ends with 1 if an
answer is not good, and with 2 if the file cannot be read.

The rules, in this order; an answer that breaks one is not judged further:

1. *failed*: no answer, or a status other than 200.
2. *mixed*: it names more than one release, or its mapping, read plan, models or scores are those of another one.
3. *time travel*: it comes from a release that had been replaced before the request was sent, or that nobody had yet begun to
   make live when the answer arrived. This is the rule of a regular register (Lamport, "On interprocess communication", 1986):
   a read returns the last write that ended before it began, or one that overlaps it.
4. *wrong user*: it is for another user, or its scores are another canary's.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from release.rehearsal.history import RecordedAnswer, RecordedMove, RehearsalHistory, Scores, read_lines

EXAMPLES = 20
CLEARLY = 0.1
"""Scores belong to another release only if they lie at least ten times nearer to that one's: ages move scores a little."""


class RehearsalVerdict(BaseModel):
    """The counts of a rehearsal; `examples` quotes the first answers that are not good."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int
    failed: int
    mixed: int
    time_travel: int
    wrong_user: int
    retried: int
    fallbacks: int
    per_release: dict[str, int]
    examples: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.requests > 0 and not (self.failed or self.mixed or self.time_travel or self.wrong_user)

    def counts(self) -> str:
        """Return the four counts in words."""
        return f"{self.failed} failed, {self.mixed} mixed, {self.time_travel} time travel, {self.wrong_user} wrong user"


def judge(history: RehearsalHistory) -> RehearsalVerdict:
    """Judge every answer of a history."""
    rules: dict[str, Callable[[RecordedAnswer, RehearsalHistory], str | None]] = {
        "failed": failure,
        "mixed": mixture,
        "time travel": time_travel,
        "wrong user": wrong_user,
    }
    broken: dict[str, list[str]] = {rule: [] for rule in rules}
    per_release: dict[str, int] = {}
    for answer in history.answers:
        for rule, check in rules.items():
            why = check(answer, history)
            if why is not None:
                broken[rule].append(f"{rule} at {answer.began:.2f} s: {why}")
                break
        else:
            per_release[answer.releases[0]] = per_release.get(answer.releases[0], 0) + 1
    return RehearsalVerdict(
        requests=len(history.answers),
        failed=len(broken["failed"]),
        mixed=len(broken["mixed"]),
        time_travel=len(broken["time travel"]),
        wrong_user=len(broken["wrong user"]),
        retried=sum(answer.retried for answer in history.answers),
        fallbacks=sum(answer.source == "fallback" for answer in history.answers),
        per_release=dict(sorted(per_release.items())),
        examples=tuple(one for found in broken.values() for one in found)[:EXAMPLES],
    )


def failure(answer: RecordedAnswer, history: RehearsalHistory) -> str | None:
    """Return why an answer is none, or None."""
    if answer.error is not None or answer.status != 200:
        return answer.error or f"status {answer.status}"
    return None


def mixture(answer: RecordedAnswer, history: RehearsalHistory) -> str | None:
    """Return what in an answer does not belong to the one release that it names, or None."""
    named = sorted(set(answer.releases))
    if len(named) != 1:
        return f"it names {', '.join(named) or 'no release'}"
    record = history.releases.get(named[0])
    if record is None:
        return f"it names {named[0]}, which is not part of the rehearsal"
    if answer.mapping_version not in (None, record.mapping_version):
        return f"{named[0]} with mapping {answer.mapping_version}"
    if answer.read_plan_sha256 not in (None, record.read_plan_sha256):
        return f"{named[0]} with another read plan"
    if answer.models and dict(answer.models) != dict(record.models):
        return f"{named[0]} with another model"
    foreign = _foreign_scores(answer, named[0], history)
    return None if foreign is None else f"{named[0]} with the scores of {foreign}"


def _foreign_scores(answer: RecordedAnswer, named: str, history: RehearsalHistory) -> str | None:
    own = history.releases[named].scores.get(answer.user_id)
    if own is None or answer.source != "model" or not answer.scores:
        return None
    apart = distance(answer, own)
    for name, release in history.releases.items():
        others = release.scores.get(answer.user_id)
        if name != named and others is not None and distance(answer, others) <= CLEARLY * apart - 1e-6:
            return name
    return None


def time_travel(answer: RecordedAnswer, history: RehearsalHistory) -> str | None:
    """Return why an answer's release cannot have been live between its request and its arrival, or None."""
    possible = live_during(answer.began, answer.ended, history.start, history.moves)
    release, generation = answer.releases[0], answer.generation
    if release in (possible.values() if generation is None else (possible.get(generation),)):
        return None
    came = release if generation is None else f"{release} of generation {generation}"
    live = ", ".join(f"{release} of generation {generation}" for generation, release in possible.items())
    return f"it comes from {came}; live was {live}"


def live_during(began: float, ended: float, start: tuple[int, str], moves: Sequence[RecordedMove]) -> dict[int, str]:
    """Return generation and release of everything that may have been live at some time of an interval.

    A move that left workers hanging never ends: those workers may go on with what they have.
    """
    over = [move for move in moves if move.ended <= began and not move.hanging]
    last = max(over, key=lambda move: move.generation, default=None)
    first = start if last is None else (last.generation, last.release)
    return dict([first, *((m.generation, m.release) for m in moves if m.generation > first[0] and m.began <= ended)])


def wrong_user(answer: RecordedAnswer, history: RehearsalHistory) -> str | None:
    """Return whose recommendation an answer is if it is not the user's own, or None.

    Scores are compared by distance, since ages move them a little. Fallbacks and stored answers have no user's scores.
    """
    release = answer.releases[0]
    if answer.answered_user not in (None, answer.user_id):
        return f"{answer.user_id} got the answer for {answer.answered_user}"
    scores = history.releases[release].scores
    if answer.source != "model" or answer.user_id not in scores or not answer.scores:
        return None
    nearest = min(scores, key=lambda user: (distance(answer, scores[user]), user != answer.user_id))
    if distance(answer, scores[nearest]) < distance(answer, scores[answer.user_id]) - 1e-6:
        return f"{answer.user_id} got what is {nearest}'s in {release}"
    return None


def distance(answer: RecordedAnswer, scores: Scores) -> float:
    """Return how far an answer's scores lie from others, summed over the answer's contents."""
    return sum(abs(score - scores.get(content, 0.0)) for content, score in answer.scores.items())


def main(arguments: Sequence[str]) -> int:
    """Judge the history in a file, print the verdict, and return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m release.rehearsal.judge FILE", file=sys.stderr)
        return 2
    try:
        history = read_lines(Path(arguments[0]).read_text().splitlines())
    except (OSError, ValueError) as error:
        print(f"error: {arguments[0]}: {error}", file=sys.stderr)
        return 2
    verdict = judge(history)
    print(
        f"{verdict.requests} requests through {len(history.moves)} moves: {verdict.counts()}",
        *verdict.examples,
        sep="\n",
    )
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
