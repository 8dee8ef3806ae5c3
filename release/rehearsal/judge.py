"""Judges a rehearsal's answers: failed, mixed, or another user's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

Scores = Mapping[str, float]
"""Score per content."""
Expected = Mapping[str, Mapping[str, Scores]]
"""By release and user: how that release ranks for that user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """One recorded response. `at` is the time of its request, in seconds since the rehearsal began."""

    at: float
    seconds: float
    user_id: str
    status: int
    error: str | None = None
    retried: bool = False
    answered_user: str | None = None
    releases: tuple[str, ...] = ()
    """Every release that the answer names: header, body, sections, digests."""
    mapping_version: int | None = None
    read_plan_sha256: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    scores: Scores = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseIdentity:
    """What a release is made of, by its record."""

    mapping_version: int
    read_plan_sha256: str
    models: Mapping[str, str]


class RehearsalVerdict(BaseModel):
    """The counts of a rehearsal. `wrong_user` counts answers that are another canary's; `examples` quotes the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int
    failed: int
    mixed: int
    wrong_user: int
    retried: int
    fallbacks: int
    per_release: dict[str, int]
    examples: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.requests > 0 and not (self.failed or self.mixed or self.wrong_user)


def judge(
    answers: Sequence[RecordedAnswer], made: Mapping[str, ReleaseIdentity], expected: Expected
) -> RehearsalVerdict:
    """Judge every answer by itself; a failed one is not judged further."""
    failed, mixed, wrong = [], [], []
    per_release: dict[str, int] = {}
    for answer in answers:
        if answer.error is not None or answer.status != 200:
            failed.append(f"failed at {answer.at:.2f} s: {answer.error or f'status {answer.status}'}")
            continue
        why = mixture(answer, made)
        if why is not None:
            mixed.append(f"mixed at {answer.at:.2f} s: {why}")
            continue
        release = answer.releases[0]
        per_release[release] = per_release.get(release, 0) + 1
        stranger = whose(answer, expected.get(release, {}))
        if stranger != answer.user_id:
            wrong.append(f"wrong user at {answer.at:.2f} s: {answer.user_id} got what is {stranger}'s in {release}")
    return RehearsalVerdict(
        requests=len(answers),
        failed=len(failed),
        mixed=len(mixed),
        wrong_user=len(wrong),
        retried=sum(answer.retried for answer in answers),
        fallbacks=sum(answer.source == "fallback" for answer in answers),
        per_release=dict(sorted(per_release.items())),
        examples=tuple((failed + mixed + wrong)[:20]),
    )


def mixture(answer: RecordedAnswer, made: Mapping[str, ReleaseIdentity]) -> str | None:
    """Return what in an answer does not belong to a single release, or None."""
    named = sorted(set(answer.releases))
    if len(named) != 1:
        return f"it names {', '.join(named) or 'no release'}"
    record = made.get(named[0])
    if record is None:
        return f"it names {named[0]}, which is not part of the rehearsal"
    if answer.mapping_version not in (None, record.mapping_version):
        return f"{named[0]} with mapping {answer.mapping_version}"
    if answer.read_plan_sha256 not in (None, record.read_plan_sha256):
        return f"{named[0]} with another read plan"
    if answer.models and dict(answer.models) != dict(record.models):
        return f"{named[0]} with another model"
    return None


def whose(answer: RecordedAnswer, scores_of: Mapping[str, Scores]) -> str:
    """Return the user whose ranking an answer holds: the requested one, unless another user's expected scores fit better.

    Ages move scores a little while the rehearsal runs, so scores are compared by distance. Fallbacks and stored answers
    have no user's scores.
    """
    if answer.answered_user not in (None, answer.user_id):
        return str(answer.answered_user)
    if answer.source != "model" or answer.user_id not in scores_of or not answer.scores:
        return answer.user_id

    def distance(scores: Scores) -> float:
        return sum(abs(score - scores.get(content, 0.0)) for content, score in answer.scores.items())

    own = distance(scores_of[answer.user_id])
    nearest = min(scores_of, key=lambda user: (distance(scores_of[user]), user != answer.user_id))
    return nearest if distance(scores_of[nearest]) < own - 1e-6 else answer.user_id
