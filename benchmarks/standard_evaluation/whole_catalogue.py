"""Judges rankings of the whole catalogue, as a user gets them, against what the simulator's users would have wanted of it.

What was shown is what an old policy chose, and a list of ten has no recall at ten. So each held-out moment is ranked once more over
every content offered then, by serving's own path from a user's features to scores. The simulator knows how likely each content is to
be a success; NDCG@10 and recall@10 are their expectations over that chance, so that no luck of a single choice is in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.standard_evaluation.world import World
from inference.ranking.catalogue import ContentTable
from inference.ranking.matrix import RankingInput
from inference.ranking.user_features import UserFeatures
from stillpoint.app.recommendations import REQUEST_TIMESTAMP
from stillpoint.catalogue import read_catalogue
from stillpoint.clock import DAY, from_micros, to_micros
from stillpoint.features.model_columns import feature_column
from training import collaborative, item_to_item, ranker
from training.evaluate import Draws, Estimate
from training.snapshot_columns import snapshot_columns
from training.train import TrainedModel, groups_of

DEPTH = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """Expected NDCG@10 and recall@10 per list and ranking, with each list's user and the groups it is in."""

    users: np.ndarray
    ndcg: Mapping[str, np.ndarray]
    recall: Mapping[str, np.ndarray]
    groups: Mapping[str, np.ndarray]

    def table(self, *, seed: int) -> dict[str, dict[str, dict[str, Estimate]]]:
        """Return group → ranking → metric; `lift` is the ranker's NDCG minus the ranking's, on the same users."""
        found: dict[str, dict[str, dict[str, Estimate]]] = {}
        for group, inside in {"all": np.ones(len(self.users), bool), **self.groups}.items():
            draws = Draws(self.users[inside], seed=seed)
            found[group] = {
                name: {
                    "ndcg@10": draws.estimate(self.ndcg[name][inside]),
                    "recall@10": draws.estimate(self.recall[name][inside]),
                    "lift": draws.estimate((self.ndcg["ranker"] - self.ndcg[name])[inside]),
                }
                for name in self.ndcg
            }
        return found


def judge(world: World, trained: TrainedModel, *, lists: int, seed: int) -> Judged:
    """Rank the whole catalogue at up to `lists` held-out moments, with every arm."""
    rows = world.snapshot.rows.filter(pa.array(trained.judged.test))
    names, first = np.unique(rows["recommendation_id"].to_numpy(zero_copy_only=False).astype(str), return_index=True)
    chosen = np.sort(np.random.default_rng(seed).choice(len(names), min(lists, len(names)), replace=False))
    heads = rows.take(pa.array(first[chosen]))
    moments = heads["event_timestamp"].cast(pa.int64()).to_numpy()
    users = users_of(heads, trained, moments)
    wanted = _wanted(world, names[chosen].tolist(), moments)
    contents = _contents_by_day(world)
    bundle, slow = trained.judged.ranker, trained.judged.slow
    columns = ranker.ModelColumns.of(world.lake.features)
    place = {name: number for number, name in enumerate(bundle.manifest.feature_order)}
    plays = collaborative.interactions(world.lake, until=world.snapshot.manifest.cutoff)
    scores: dict[str, list[np.ndarray]] = {}
    gains: list[np.ndarray] = []
    offered: list[ContentTable] = []
    for number, user in enumerate(users):
        at = int(moments[number])
        table = contents[max(day for day in contents if day <= at // DAY)].offered_at(at)
        matrix = np.empty((len(table), len(place)), np.float32)
        RankingInput.of(bundle, table).fill(matrix, user, user.sequence_id)
        arms = {
            "ranker": bundle.score_matrix(matrix),
            "collaborative": matrix[:, place["collaborative_score"]].astype(np.float64),
            "popularity": matrix[:, place["plays_7d"]].astype(np.float64),
        }
        if slow is not None:
            arms["without_real_time"] = ranker.predict(slow, matrix, columns, columns.real_time)
        for name, values in arms.items():
            scores.setdefault(name, []).append(values)
        rows_of = {one: row for row, one in enumerate(world.scenario.catalogue.content_ids)}
        gains.append(wanted[number][[rows_of[one] for one in table.ids]])
        offered.append(table)
    scores["item_to_item"] = _session_baseline(plays, users, moments, offered)
    scores["true_preference"] = gains
    judged = {
        name: [_expected(one, gain) for one, gain in zip(found, gains, strict=True)] for name, found in scores.items()
    }
    return Judged(
        users=heads["user_id"].to_numpy(zero_copy_only=False).astype(str),
        ndcg={name: np.array([one[0] for one in found]) for name, found in judged.items()},
        recall={name: np.array([one[1] for one in found]) for name, found in judged.items()},
        groups={name: mask for name, mask in groups_of(heads).items() if not name.startswith(("gender ", "locale "))},
    )


def _expected(scores: np.ndarray, gains: np.ndarray) -> tuple[float, float]:
    """Return the expected NDCG@10 and recall@10 of one success that is drawn by `gains`."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:DEPTH]
    chance = gains[order] / gains.sum()
    return float((chance / np.log2(np.arange(len(order)) + 2)).sum()), float(chance.sum())


def users_of(heads: pa.Table, trained: TrainedModel, moments: np.ndarray) -> list[UserFeatures]:
    """Return the users' features of snapshot rows in the form in which serving reads them."""
    sequence = {user: place for place, user in enumerate(trained.factors.user_ids)}
    columns = {REQUEST_TIMESTAMP: moments, **snapshot_columns(heads)}
    return [
        UserFeatures(
            user_id=user,
            columns={name: values[row : row + 1] for name, values in columns.items()},
            sequence_id=sequence.get(user),
            mapping_version=trained.bundle.manifest.mapping_version,
            fill_marker=None,
            views=(),
        )
        for row, user in enumerate(heads["user_id"].to_pylist())
    ]


def _wanted(world: World, names: list[str], moments: np.ndarray) -> np.ndarray:
    """Return the true preference over the whole catalogue for each list, (n, contents)."""
    found = np.full((len(names), world.scenario.contents), np.nan)
    place = {name: number for number, name in enumerate(names)}
    around = {int(day) for at in moments for day in (at // DAY - 1, at // DAY, at // DAY + 1)}
    for day in sorted(around):
        _, lists = world.scenario.day(from_micros(day * DAY).date())
        here = [
            (row, place[name])
            for row, name in enumerate(f"r{one}" for one in lists.recommendation.tolist())
            if name in place
        ]
        if here:
            rows, places = (np.array(one) for one in zip(*here, strict=True))
            found[places] = world.scenario.preference(lists, rows)
    if np.isnan(found).any():
        raise ValueError(f"{int(np.isnan(found[:, 0]).sum())} lists are not the simulator's")
    return found


def _contents_by_day(world: World) -> dict[int, ContentTable]:
    """Return each day's contents with their features as they were then."""
    known = {row.content_id: row for row in read_catalogue(world.lake, now=world.snapshot.manifest.cutoff)}
    profiles = world.lake.read("features/content_profiles")
    tables = {}
    for moment in profiles["event_timestamp"].unique().to_pylist():
        rows = profiles.filter(pc.equal(profiles["event_timestamp"], moment)).sort_by("content_id")
        columns = {
            f.name: feature_column(f.name, f.dtype, rows[f.name].combine_chunks())
            for f in world.lake.features.view("content_profiles")
        }
        ids = tuple(rows["content_id"].to_pylist())
        tables[to_micros(moment) // DAY] = ContentTable(
            ids=ids,
            titles=tuple(known[one].title for one in ids),
            categories=columns["category"],
            durations=columns["duration_seconds"],
            columns=columns,
            features=world.lake.features,
            offered_from=np.array([to_micros(known[one].published_at) for one in ids], np.int64),
            offered_until=np.full(len(ids), np.iinfo(np.int64).max),
        )
    return tables


def _session_baseline(
    plays: pl.DataFrame, users: list[UserFeatures], moments: np.ndarray, offered: list[ContentTable]
) -> list[np.ndarray]:
    shown = pl.DataFrame(
        {
            "user_id": [user.user_id for user, table in zip(users, offered, strict=True) for _ in table.ids],
            "content_id": [one for table in offered for one in table.ids],
            "at_us": np.repeat(moments, [len(table) for table in offered]),
        }
    )
    found = item_to_item.scores(plays, shown, until_us=int(moments.min()))
    return np.split(found, np.cumsum([len(table) for table in offered])[:-1])
