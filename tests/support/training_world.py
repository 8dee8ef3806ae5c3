"""A lake with simulated history, its features, a Feast store over them, a snapshot and a model trained on it."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import feast
from feast.repo_config import RepoConfig

from simulation.history import write_history
from simulation.scenario import Scenario
from stillpoint.clock import system_clock
from stillpoint.encoder import WordLlamaEncoder
from stillpoint.feast_definitions import define
from stillpoint.features.columns import rows_table
from stillpoint.features.daily import daily_tables, days_between
from stillpoint.features.streamed.history import AppHistory
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date, feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.snapshots import Snapshot
from tests.support.wellness import APP, FEATURES, STREAMED_VIEWS, on_time_events
from training.expected_rows import expectations
from training.snapshot import make_snapshot
from training.train import TrainedModel, train

START, DAYS = date(2026, 10, 5), 10
CUTOFF = datetime(2026, 10, 15, tzinfo=UTC)
ENCODER = WordLlamaEncoder()


@dataclass
class World:
    lake: Lake
    store: feast.FeatureStore
    snapshot: Snapshot
    trained: TrainedModel


def load_features(lake: Lake, last: date, number: int = 0) -> None:
    """Backfill all views from the lake's events by the one definition of each, beside what is there."""
    table, files = lake.read("events"), []
    events = on_time_events(table)
    for view in STREAMED_VIEWS:
        rows = rows_table(view, AppHistory(APP, ENCODER).rows(view.name, events))
        files += [lake.write(feature_dataset(view), day, f"backfill-{number}", part) for day, part in by_date(rows)]
    references = {"users": lake.read("users"), "catalogue": lake.read("catalogue")}
    for day, view, rows in daily_tables(
        days_between(START, last), APP.daily_views, events=table, encoder=ENCODER, tables=references
    ):
        files.append(lake.write(feature_dataset(view), day, f"daily-{number}", rows))
    lake.commit(Commit(writer="backfill", sequence=number, at=CUTOFF, files=tuple(files)))


def open_store(lake: Lake, folder: Path) -> feast.FeatureStore:
    config = RepoConfig(
        project="training_path",
        provider="local",
        registry={"path": str(folder / "registry.pb")},
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store={
            "type": "stillpoint.stores.offline.StillpointOfflineStore",
            "lake_root": lake.root,
            "created_cutoff": True,
        },
        entity_key_serialization_version=3,
    )
    store = feast.FeatureStore(config=config)
    store.apply(define(FEATURES, lake_root=lake.root, mapping_version=1).all())
    return store


def few_users(folder: Path, users: int = 60) -> tuple[Lake, feast.FeatureStore]:
    """Return a lake with three days of few users from `START`, their features, and a store over it: made in a second."""
    lake = Lake(LocalObjects(folder / "lake"), FEATURES)
    write_history(lake, Scenario(start=START, days=3, users=users, contents=40, seed=5))
    load_features(lake, START + timedelta(days=3))
    return lake, open_store(lake, folder)


def make_world(folder: Path, *, expect: bool = False, **changes: Any) -> World:
    """Make it in a folder, its snapshot checked if `expect`; `changes` are those of the scenario."""
    lake = Lake(LocalObjects(folder / "lake"), FEATURES)
    write_history(lake, replace(Scenario(start=START, days=DAYS, users=900, seed=5), **changes))
    days = changes.get("days", DAYS)
    load_features(lake, START + timedelta(days=days))
    store = open_store(lake, folder)
    snapshot = make_snapshot(
        lake,
        store,
        cutoff=datetime.combine(START + timedelta(days=days), datetime.min.time(), UTC),
        encoder_sha256=ENCODER.sha256,
        expect=expectations(FEATURES, system_clock) if expect else None,
    )
    return World(lake, store, snapshot, train(lake, snapshot, mapping_version=1, seed=7))
