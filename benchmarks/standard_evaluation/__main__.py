"""`make evaluate`: the standard evaluation of the ranker over the simulator, against baselines and the ceiling, with ablations.

    python -m benchmarks.standard_evaluation [--users 1000] [--days 28] [--seed 7] [--lists 1500] [--json FILE]

One simulated world; a model trained on a snapshot of it and judged on its latest lists, as they were shown and over the whole
catalogue; the same model without one part after the other; a world without any effect of the context, and shuffled labels, in which
there must be no lift. Intervals are 95 %, users resampled. Asserts nothing.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.standard_evaluation.ablations import ablations
from benchmarks.standard_evaluation.whole_catalogue import judge
from benchmarks.standard_evaluation.world import World, make_world
from stillpoint.snapshots import Snapshot
from training import ranker
from training.evaluate import Estimate
from training.train import evaluate, train
from training.training_rows import prepare

GROUPS = ("all", "after a search", "exertion rising", "after bounces", "new users")
ARMS = ("ranker", "without_real_time", "collaborative", "popularity", "item_to_item", "true_preference")
Results = Mapping[str, Mapping[str, Mapping[str, Estimate]]]


def main() -> None:
    asked = argparse.ArgumentParser(
        prog="python -m benchmarks.standard_evaluation", description=__doc__.partition("\n")[0]
    )
    asked.add_argument("--users", type=int, default=1000)
    asked.add_argument("--days", type=int, default=28)
    asked.add_argument("--seed", type=int, default=7)
    asked.add_argument(
        "--lists", type=int, default=1500, help="held-out moments at which the whole catalogue is ranked"
    )
    asked.add_argument("--json", type=Path, help="also write every figure there")
    options = asked.parse_args()
    console, began = Console(width=160), time.process_time()
    logging.getLogger().setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="feast")

    def said(what: str) -> None:
        sys.stderr.write(f"{time.process_time() - began:6.0f} s of processor time: {what}\n")

    with tempfile.TemporaryDirectory() as folder:
        said("simulate, compute features, take a snapshot")
        world = make_world(Path(folder) / "world", users=options.users, days=options.days, seed=options.seed)
        said(f"train on {world.snapshot.rows.num_rows:,} rows")
        trained = train(world.lake, world.snapshot, mapping_version=1, seed=options.seed)
        said("rank the whole catalogue")
        whole = judge(world, trained, lists=options.lists, seed=options.seed).table(seed=options.seed)
        shown = trained.evaluation.results
        for title, results, metric in (
            ("Lists as shown: NDCG@3", shown, "ndcg@3"),
            ("Lists as shown: NDCG@10", shown, "ndcg@10"),
            ("Whole catalogue: NDCG@10", whole, "ndcg@10"),
            ("Whole catalogue: recall@10", whole, "recall@10"),
        ):
            console.print(_table(title, results, metric))
        said("ablations")
        removed = ablations(world, seed=options.seed)
        console.print(_ablations(removed))
        said("labels shuffled")
        shuffled = _shuffled(world, options.seed)
        said("a world in which the context has no effect")
        still = _still(Path(folder) / "still", options)
        for name, lift in (
            ("labels shuffled: ranker over a random order", shuffled),
            ("no context effect: ranker over itself without real-time features", still),
        ):
            console.print(f"{name}: NDCG@3 lift {lift.value:+.4f} ({lift.low:+.4f} to {lift.high:+.4f})")
        said("done")
    if options.json is not None:
        figures: dict[str, Any] = {
            "shown": _plain(shown),
            "whole_catalogue": _plain(whole),
            "ablations": {name: _plain(one) for name, one in removed.items()},
            "labels_shuffled": shuffled.model_dump(),
            "no_context_effect": still.model_dump(),
            "processor_seconds": time.process_time() - began,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _shuffled(world: World, seed: int) -> Estimate:
    """Return the ranker's lift over a random order where labels say nothing."""
    rows = world.snapshot.rows
    labels = np.random.default_rng(seed).permutation(rows["label"].to_numpy())
    place = rows.schema.get_field_index("label")
    mixed = Snapshot(world.snapshot.manifest, rows.set_column(place, rows.schema.field(place), pa.array(labels)))
    ready = prepare(world.lake, mixed, mapping_version=1, seed=seed)
    split = ready.split
    stop = (ready.matrix[split.stop], ready.labels[split.stop])
    made = ranker.train_ranker(
        ready.matrix[split.train], ready.labels[split.train], ready.columns, seed=seed, stop=stop
    )
    rankings = {
        "random order": np.random.default_rng(seed).random(int(split.test.sum())),
        "ranker": ranker.predict(made, ready.matrix[split.test], ready.columns),
    }
    return evaluate(ready, rankings, seed=seed, best_round=0).results["all"]["ranker"]["ndcg_lift"]


def _still(folder: Path, options: argparse.Namespace) -> Estimate:
    """Return the lift of real-time features where the context has no effect on what users want."""
    world = make_world(
        folder, users=options.users // 2, days=options.days // 2, seed=options.seed, context_effect=False
    )
    lift = train(world.lake, world.snapshot, mapping_version=1, seed=options.seed).evaluation.results["all"][
        "without_real_time"
    ]["ndcg_lift"]
    return Estimate(value=-lift.value, low=-lift.high, high=-lift.low, lists=lift.lists)


def _table(title: str, results: Results, metric: str) -> Table:
    table = Table("context", "lists", *(name.replace("_", " ") for name in ARMS), "share of the ceiling", title=title)
    for group in GROUPS:
        if group not in results or not results[group]["ranker"][metric].lists:
            table.add_row(group, "0", *["no list"] * (len(ARMS) + 1))
            continue
        cells = [results[group][name][metric] for name in ARMS]
        share = cells[0].value / cells[-1].value
        table.add_row(group, str(cells[0].lists), *map(_shown, cells), f"{share:.0%}")
    return table


def _ablations(removed: Mapping[str, Results]) -> Table:
    table = Table(
        "ranker",
        *GROUPS,
        "lift of the whole ranker",
        title="Ablations, lists as shown: NDCG@3, and the share of the ceiling",
    )
    for name, results in removed.items():
        cells = [
            f"{results[group][name]['ndcg@3'].value:.3f} ({results[group][name]['ndcg@3'].value / results[group]['true_preference']['ndcg@3'].value:.0%})"
            for group in GROUPS
        ]
        lift = results["all"][name]["ndcg_lift"]
        table.add_row(name, *cells, f"{-lift.value:+.4f} ({-lift.high:+.4f} to {-lift.low:+.4f})")
    return table


def _shown(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f}-{one.high:.3f})"


def _plain(results: Results) -> dict[str, Any]:
    return {
        g: {n: {m: e.model_dump() for m, e in metrics.items()} for n, metrics in named.items()}
        for g, named in results.items()
    }


if __name__ == "__main__":
    main()
