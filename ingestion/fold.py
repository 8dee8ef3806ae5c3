"""How do the commits of days ago become one object, so that reading the lake does not cost more every day?

A listing gives 1,000 commits at a time, and a stream makes one per micro-batch. What is folded counts as before.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from stillpoint.lake import FOLDS, Commit, Fold, FoldedCommit, Lake

FOLD_AFTER = timedelta(days=7)
"""Younger commits stay as they are: whoever goes on after a kill looks at them one by one."""
FEWEST = 1_000


def fold(lake: Lake, *, before: datetime, at: datetime, fewest: int = FEWEST) -> int:
    """Fold the commits made before a moment into one object, and delete theirs. Return how many, 0 if there are too few.

    The newest commit of a stream, by which it knows how far it came, stays. One run at a time: callers hold the lease
    `compact`. Killed anywhere it can be run again: a commit that is in a fold counts once, deleted or not.
    """
    lake.folds()
    done = [key for key in lake.objects.list("commits/") if lake.is_folded(key)]  # left by a run that was killed
    chosen = _chosen(lake, before)
    if len(chosen) >= fewest:
        name = f"{FOLDS}{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}.json"
        lake.objects.create(name, folded(chosen).model_dump_json().encode())
        done += [commit.key for commit in chosen]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lake.objects.delete, done))
    return len(done)


def _chosen(lake: Lake, before: datetime) -> list[Commit]:
    newest: dict[str, int] = {}
    commits = [commit for commit in lake.commits() if not isinstance(commit, FoldedCommit)]
    for commit in commits:
        newest[commit.writer] = max(commit.sequence, newest.get(commit.writer, -1))
    return [
        commit
        for commit in commits
        if commit.at < before and not (commit.writer.startswith("stream-") and commit.sequence == newest[commit.writer])
    ]


def folded(commits: Sequence[Commit]) -> Fold:
    """Return what remains of commits: the files that none of them supersedes, and what they supersede of others."""
    added = {file.path for commit in commits for file in commit.files}
    gone = {path for commit in commits for path in commit.supersedes}
    by_writer: dict[str, list[Commit]] = defaultdict(list)
    for commit in sorted(commits, key=lambda commit: commit.sequence):
        by_writer[commit.writer].append(commit)
    whole = [
        FoldedCommit(
            writer=writer,
            sequence=own[0].sequence,
            epoch=max(commit.epoch for commit in own),
            at=max(commit.at for commit in own),
            files=tuple(file for commit in own for file in commit.files if file.path not in gone),
            supersedes=tuple(path for commit in own for path in commit.supersedes if path not in added),
            properties=_summed(own),
            commits=len(own),
        )
        for writer, own in by_writer.items()
    ]
    return Fold(
        commits=tuple(one for one in whole if one.files or one.supersedes or one.properties),
        sequences={writer: _runs([commit.sequence for commit in own]) for writer, own in by_writer.items()},
    )


def _summed(commits: Sequence[Commit]) -> dict[str, str | int | float | None]:
    """Return the sums of numbers, and of what is no number the last."""
    found: dict[str, str | int | float | None] = {}
    for name, value in (pair for commit in commits for pair in commit.properties.items()):
        before = found.get(name)
        if isinstance(value, int | float) and isinstance(before, int | float):
            value += before
        found[name] = value
    return found


def _runs(sequences: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return first and last of each run of consecutive numbers, of ascending ones."""
    runs: list[tuple[int, int]] = []
    for number in sequences:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return tuple(runs)
