"""Folds older commits into one checkpoint of the commit log, so that the cost of reading the lake does not grow with its age.

Each commit is an object that readers list and read, and a stream makes one per micro-batch. Folded commits count as before. A new fold
includes the previous one, reduced to the files that no later commit supersedes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from ingestion.reconcile import holds_its_sums
from stillpoint.errors import AlreadyExists
from stillpoint.lake.checkpoint import CHECKPOINTS, CheckpointedCommit, LogCheckpoint
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake
from stillpoint.served_rows import SERVED_IDS, SERVED_MESSAGES

FOLD_AFTER = timedelta(hours=1)
"""Younger commits are not folded: a writer that got no answer to its commit finds the commit when it repeats it."""
FEWEST = 1_000


def fold(lake: Lake, *, before: datetime, fewest: int = FEWEST) -> int:
    """Fold the commits made before a moment into one object and delete the originals. Return their number; 0 if there are too few.

    Not folded are the newest commit of each stream, from which it knows how far it got, and commits whose files do not hold their sums,
    which `stillpoint events reconcile` reports. Callers hold the lease `compact`. A run that was killed can be repeated: a commit that is
    in the fold counts once, whether its original was deleted or not.
    """
    earlier = lake.checkpoint()
    chosen = _chosen(lake, before)
    if len(chosen) >= fewest:
        now = folded(chosen, earlier)
        try:
            lake.objects.create(now.key, now.model_dump_json().encode())
        except AlreadyExists:  # this run had lost its lease, and another one was quicker
            return 0
    else:
        now = earlier  # and a run that was killed may not have deleted all that this one stands for
    old = [key for key in lake.objects.list(CHECKPOINTS) if key < now.key]
    done = [key for key in lake.objects.list("commits/") if now.holds(key)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lake.objects.delete, [*old, *done]))
    return len(done)


def _chosen(lake: Lake, before: datetime) -> list[Commit]:
    newest: dict[str, int] = {}
    commits = [commit for commit in lake.commits() if not isinstance(commit, CheckpointedCommit)]
    for commit in commits:
        newest[commit.writer] = max(commit.sequence, newest.get(commit.writer, -1))
    return [
        commit
        for commit in commits
        if commit.at < before
        and holds_its_sums(commit)
        and not (commit.writer.startswith("stream-") and commit.sequence == newest[commit.writer])
    ]


def folded(commits: Sequence[Commit], earlier: LogCheckpoint) -> LogCheckpoint:
    """Return what remains of commits and the fold before: the files that none of them supersedes, and what they supersede
    of others."""
    everything = [*earlier.commits, *commits]
    added = {file.path for commit in everything for file in commit.files}
    gone = {path for commit in everything for path in commit.supersedes}
    by_writer: dict[str, list[Commit]] = defaultdict(list)
    for commit in sorted(everything, key=lambda commit: commit.sequence):
        by_writer[commit.writer].append(commit)
    whole = [
        CheckpointedCommit(
            writer=writer,
            sequence=own[0].sequence,
            epoch=max(commit.epoch for commit in own),
            at=max(commit.at for commit in own),
            files=tuple(file for commit in own for file in commit.files if file.path not in gone),
            supersedes=tuple(path for commit in own for path in commit.supersedes if path not in added),
            properties=_summed(own),
            commits=sum(commit.commits if isinstance(commit, CheckpointedCommit) else 1 for commit in own),
        )
        for writer, own in by_writer.items()
    ]
    ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for writer, runs in earlier.sequences.items():
        ranges[writer] += runs
    for commit in commits:
        ranges[commit.writer].append((commit.sequence, commit.sequence))
    return LogCheckpoint(
        generation=earlier.generation + 1,
        commits=tuple(one for one in whole if one.files or one.supersedes or one.properties),
        sequences={writer: _runs(sorted(own)) for writer, own in ranges.items()},
    )


def _summed(commits: Sequence[Commit]) -> dict[str, str | int | float | None]:
    """Return the sums of numbers, and of what is no number the last; what names the ids of one commit speaks of no other."""
    found: dict[str, str | int | float | None] = {}
    for name, value in (pair for commit in commits for pair in commit.properties.items()):
        if name in (SERVED_IDS, SERVED_MESSAGES):
            continue
        before = found.get(name)
        if isinstance(value, int | float) and isinstance(before, int | float):
            value += before
        found[name] = value
    return found


def _runs(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return first and last of each run of consecutive numbers, of ascending ranges of them."""
    runs: list[tuple[int, int]] = []
    for first, last in ranges:
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return tuple(runs)
