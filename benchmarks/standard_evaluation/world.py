"""Makes the simulated world that models are judged on: history, features, a Feast store, and a snapshot, all by the platform's own code."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import feast
from feast.repo_config import RepoConfig

from ingestion.backfill import backfill
from simulation.history import write_history
from simulation.scenario import Scenario
from stillpoint.app.load import load_app
from stillpoint.encoder import WordLlamaEncoder
from stillpoint.events.recorded import event_columns
from stillpoint.feast_definitions import define
from stillpoint.features.daily import daily_tables, days_between
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.snapshots import Snapshot
from training.snapshot import make_snapshot

START = date(2026, 3, 2)
APP = Path(__file__).parents[2] / "feature_repo"


@dataclass(frozen=True, slots=True)
class World:
    scenario: Scenario
    lake: Lake
    snapshot: Snapshot


def make_world(folder: Path, *, users: int, days: int, seed: int, context_effect: bool = True) -> World:
    """Simulate, compute all features, and take a snapshot at the end of the last day."""
    scenario = Scenario(start=START, days=days, users=users, seed=seed, context_effect=context_effect)
    app, encoder = load_app(str(APP)), WordLlamaEncoder()
    lake = Lake(LocalObjects(folder / "lake"), app.features, event_columns(app.events))
    cutoff = datetime.combine(START + timedelta(days=days), datetime.min.time(), UTC)
    write_history(lake, scenario)
    backfill(lake, DateRange(None, cutoff.date()), at=cutoff, app=app, encoder=encoder)
    references = {"users": lake.read("users"), "catalogue": lake.read("catalogue")}
    files = [
        lake.write(feature_dataset(view), day, "daily", rows)
        for day, view, rows in daily_tables(
            days_between(START, cutoff.date()),
            app.daily_views,
            events=lake.read("events"),
            encoder=encoder,
            tables=references,
        )
    ]
    lake.commit(Commit(writer="daily", sequence=0, at=cutoff, files=tuple(files)))
    snapshot = make_snapshot(lake, _store(lake, folder), cutoff=cutoff, encoder_sha256=encoder.sha256)
    return World(scenario, lake, snapshot)


def _store(lake: Lake, folder: Path) -> feast.FeatureStore:
    config = RepoConfig(
        project="evaluation",
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
    store.apply(define(lake.features, lake_root=lake.root, mapping_version=1).all())
    return store
