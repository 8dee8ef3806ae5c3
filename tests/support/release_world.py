"""A small world to release in: a lake with users, contents and mappings, models for them, and release contexts on real servers."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost

from release.context import ReleaseContext
from release.models import routes_of
from release.prepare import NewRelease
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.app.records import Feature, Origin, View
from stillpoint.clock import system_clock
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.events.types import CATALOGUE_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date, feature_dataset
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.messages import Kind
from stillpoint.model import COLLABORATIVE_SCORE, ModelBundle, ModelManifest
from stillpoint.releases.records import Route
from stillpoint.served_rows import SERVED_COLUMNS
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.wellness import CONTENT_PROFILES, VIEWS

USERS = [f"u{number}" for number in range(30)]
CONTENTS = [f"c{number}" for number in range(12)]
ENCODER = "e" * 64


def context_for(settings: Settings, lake: Lake, **changes: Any) -> ReleaseContext:
    """Return a release context on the settings' servers, with short time limits."""
    context = ReleaseContext(
        settings=settings,
        lake=lake,
        serving=connect(settings.redis_serving.get_secret_value()),
        connect=connect,
        clock=system_clock,
        operator="ann@test",
        lease_seconds=2.0,
        load_seconds=3.0,
        barrier_seconds=2.0,
    )
    return replace(context, **changes)


class World:
    """The lake's contents, made so that every value is known by name."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._commits = 0
        self.now = datetime.now(UTC)

    def fill(self, *, users: list[str] = USERS) -> None:
        """Write one row per entity of every declared view but the mapping: daily at midnight, streamed a minute ago."""
        midnight = datetime.combine(self.now.date(), datetime.min.time(), UTC)
        for view in VIEWS:
            if view.origin is Origin.MAPPING:
                continue
            ids = users if view.entity.name == "user" else CONTENTS
            at = midnight if view.origin is Origin.DAILY else self.now - timedelta(minutes=1)
            self.write(view, [self.row(view, one, at, number) for number, one in enumerate(ids)])

    def catalogue(self) -> None:
        """Write the contents' titles, as serving wants them."""
        at = datetime(2026, 1, 1, tzinfo=UTC)
        categories = CONTENT_PROFILES.features[0].values or ()
        rows = [
            {
                "content_id": one,
                "title": f"title {one}",
                "description": "",
                "category": categories[number % len(categories)],
                "duration_seconds": 300,
                "published_at": at,
                "updated_at": at,
            }
            for number, one in enumerate(CONTENTS)
        ]
        self._commits += 1
        table = pa.Table.from_pylist(rows, schema=CATALOGUE_COLUMNS)
        file = self.lake.write("catalogue", at.date(), f"test-{self._commits}", table)
        self.lake.commit(Commit(writer=f"test-{id(self)}", sequence=self._commits, at=self.now, files=(file,)))

    def row(self, view: View, one: str, at: datetime, number: int) -> dict[str, Any]:
        values = {feature.name: _value(feature, number) for feature in view}
        return {view.entity.join_key: one, "event_timestamp": at, "created_timestamp": at, **values}

    def write(self, view: View, rows: list[dict[str, Any]], dataset: str | None = None) -> None:
        table = pa.Table.from_pylist(rows, schema=feature_columns(view))
        name = dataset or feature_dataset(view)
        self._commits += 1
        files = tuple(self.lake.write(name, day, f"test-{self._commits}", part) for day, part in by_date(table))
        self.lake.commit(Commit(writer=f"test-{id(self)}", sequence=self._commits, at=self.now, files=files))

    def served(self, release: str, user: str, views: list[dict[str, Any]]) -> None:
        """Write one prediction of a release to the served log: the rows of features that it says it has used."""
        self._commits += 1
        row = {
            "request_id": str(self._commits),
            "recommendation_id": str(self._commits),
            "served_at": datetime.now(UTC),
            "release": release,
            "generation": 1,
            "arm": "a",
            "user_id": user,
            "kind": "today",
            "source": "model",
            "trigger": None,
            "items": [],
            "candidates": [],
            "scores": [],
            "views": views,
        }
        table = pa.Table.from_pylist([row], schema=SERVED_COLUMNS)
        file = self.lake.write("served", row["served_at"].date(), f"test-{self._commits}", table)
        self.lake.commit(Commit(writer=f"test-{id(self)}", sequence=self._commits, at=self.now, files=(file,)))

    def mapping(self, version: int, *, users: list[str] = USERS) -> None:
        """Write a mapping: version 1 counts up, others turn the order round, so that ids belong to other users."""
        day = date(2026, 1, 1)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        order = users if version % 2 else users[::-1]
        rows = [
            {
                "user_id": user,
                "event_timestamp": at,
                "created_timestamp": at,
                "sequence_id": place,
                "mapping_version": version,
            }
            for place, user in enumerate(order)
        ]
        self.write(USER_SEQUENCE, rows, feature_dataset(USER_SEQUENCE, version))

    def model(self, version: int, *, users: list[str] = USERS, salt: int = 0) -> str:
        """Write a model whose collaborative filter gives each user one favourite content; return its digest."""
        order = users if version % 2 else users[::-1]
        user_factors = np.zeros((len(users), len(CONTENTS)), dtype=np.float32)
        for place, user in enumerate(order):
            user_factors[place, favourite(user)] = 1.0
        rows = np.array([[0.0], [1.0]] * 20, dtype=np.float32)
        booster = xgboost.train(
            {"objective": "reg:squarederror", "max_depth": 2, "nthread": 1, "seed": salt, "base_score": 0.001 * salt},
            xgboost.DMatrix(rows, label=rows[:, 0], feature_names=None),
            num_boost_round=2,
        )
        bundle = ModelBundle(
            ModelManifest(
                feature_order=(COLLABORATIVE_SCORE,),
                categories={},
                encoder_sha256=ENCODER,
                mapping_version=version,
                definitions_sha256="d" * 64,
                snapshot_id=f"s{version}",
                popular=tuple(CONTENTS),
                created_at=datetime(2026, 11, 1, tzinfo=UTC),
                data="simulated",
            ),
            ranker=bytes(booster.save_raw("ubj")),
            user_factors=user_factors,
            content_factors=np.eye(len(CONTENTS), dtype=np.float32),
            content_ids=CONTENTS,
        )
        self.lake.objects.put(bundle.key, bundle.data)
        return bundle.sha256

    def routes(self, version: int, *, salt: int = 0) -> dict[Kind, Route]:
        digest = self.model(version, salt=salt)
        return routes_of(dict.fromkeys(Kind, digest))

    def wanted(self, version: int, *, salt: int = 0, model_only: bool = False) -> NewRelease:
        return NewRelease(routes=self.routes(version, salt=salt), why=f"mapping {version}", model_only=model_only)


def favourite(user: str) -> int:
    """Return the place of the content that belongs first for this user."""
    return int(user[1:]) % len(CONTENTS)


def _value(feature: Feature, number: int) -> Any:
    """Return a value within the feature's declared range that differs from entity to entity."""
    low = feature.minimum or 0
    values = feature.values
    return {
        DType.INT64: int(low) + number,
        DType.FLOAT64: low + number / 256,
        DType.BOOL: bool(number % 2),
        DType.STRING: values[number % len(values)] if values else f"text {number}",
        DType.EMBEDDING: [1.0] + [0.0] * (EMBEDDING_LENGTH - 1),
    }[feature.dtype]
