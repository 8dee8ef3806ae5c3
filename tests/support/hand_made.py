"""A whole release made by hand, in a second: catalogue, online features, a small trained model, record, pointer.

`hand_made(lake, settings, project=unique)` → `HandMade`; its methods write a user's rows, the fill marker, and move the pointer.
Nothing here trains well: the trees learn to prefer the category that a search or a rising pulse asks for.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost

from stillpoint.app.feature_set import RANKER_SERVICE, USER_SEQUENCE
from stillpoint.app.records import View
from stillpoint.choice_model import CHOICE_FEATURES, ChoiceModel, NumberPart, TextPart, VectorPart
from stillpoint.clock import to_micros
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.events.types import CATALOGUE_COLUMNS, USER_COLUMNS, Category
from stillpoint.features.columns import rows_table
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.model import COLLABORATIVE_SCORE, ModelBundle, ModelManifest
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import Announcement, Pointer, Release, Route
from stillpoint.settings import Settings
from stillpoint.stores.reading.plan import ReadPlan, fill_marker_key
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.wellness import CONTENT_PROFILES, FEATURES, SERVICES, USER_PROFILES, USER_TASTE

MADE = datetime(2026, 11, 20, tzinfo=UTC)
CATEGORIES = tuple(str(category) for category in Category)
USERS = 20


def axis(category: str) -> np.ndarray:
    """The unit vector of a category: titles and searches of a category point there."""
    vector = np.zeros(EMBEDDING_LENGTH, np.float32)
    vector[CATEGORIES.index(category)] = 1.0
    return vector


def contents(count: int = 60) -> list[tuple[str, str, int]]:
    """(content id, category, duration): categories in turn, durations of 5, 10 and 20 minutes."""
    return [(f"c{n:04d}", CATEGORIES[n % 6], (300, 600, 1200)[n // 6 % 3]) for n in range(count)]


def model(
    content_ids: Sequence[str], *, mapping_version: int = 1, users: int = USERS, seed: int = 3, definitions: str = "d"
) -> ModelBundle:
    """A small bundle that takes the ranker's columns: the cosine of search and title decides, then popularity."""
    service = SERVICES[RANKER_SERVICE]
    features = [feature for view in service for feature in view if feature.dtype is not DType.EMBEDDING]
    order = [feature.name for feature in features] + [one.name for one in FEATURES.request_features]
    order += [*CHOICE_FEATURES, COLLABORATIVE_SCORE]
    texts = {
        feature.name: feature.values or ("f", "m", "en", "de") for feature in features if feature.dtype is DType.STRING
    }
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0, 1, (800, len(order))).astype(np.float32)
    for name, values in texts.items():
        matrix[:, order.index(name)] = rng.integers(0, len(values), 800)
    cosine, rising = matrix[:, order.index("search_title_cosine")], matrix[:, order.index("move_while_rising")]
    collaborative = matrix[:, order.index(COLLABORATIVE_SCORE)]
    label = 3 * (cosine > 0.5) + 2 * (rising > 0.5) + collaborative
    types = ["c" if name in texts else "float" for name in order]
    rows = xgboost.QuantileDMatrix(matrix, label, feature_types=types, enable_categorical=True)
    booster = xgboost.train({"objective": "reg:squarederror", "seed": seed, "nthread": 1, "max_depth": 4}, rows, 30)
    factors = rng.uniform(0, 1, (max(users, len(content_ids)), 4)).astype(np.float32)
    return ModelBundle(
        ModelManifest(
            feature_order=tuple(order),
            categories=texts,
            encoder_sha256="e" * 64,
            mapping_version=mapping_version,
            definitions_sha256=hashlib.sha256(definitions.encode()).hexdigest(),
            snapshot_id=f"hand-made-{seed}",
            popular=tuple(reversed(content_ids)),
            created_at=MADE,
            data="simulated",
        ),
        ranker=bytes(booster.save_raw("ubj")),
        user_factors=factors[:users],
        content_factors=factors[: len(content_ids)],
        content_ids=tuple(content_ids),
        choices=choices(seed),
    )


def choices(seed: int = 3) -> ChoiceModel:
    """A choice model over the declared real-time columns and the contents' category and title."""
    rng = np.random.default_rng(seed)

    def vector(name: str, **more: Any) -> VectorPart:
        mean, directions = rng.normal(size=EMBEDDING_LENGTH), rng.normal(size=(EMBEDDING_LENGTH, 5))
        return VectorPart(name, mean.astype(np.float32), directions.astype(np.float32), **more)

    numbers = [f.name for view in FEATURES.streamed for f in view if f.dtype is not DType.EMBEDDING]
    situation = (
        vector("search_embedding", age="search_embeddings_age_seconds", half_life=1800.0),
        *(NumberPart(name, 1.0, 2.0) for name in numbers),
    )
    content = (TextPart("category", CATEGORIES), vector("title_embedding"))
    width = len(CATEGORIES) + 6
    weights = rng.normal(size=(6 + len(numbers), width)).astype(np.float32)
    return ChoiceModel(situation, content, weights, rng.normal(size=width).astype(np.float32))


@dataclass
class HandMade:
    """A release that is recorded, and filled in its colour's Redis."""

    lake: Lake
    settings: Settings
    book: ObjectReleaseBook
    release: Release
    client: Any
    plan: ReadPlan
    bundle: ModelBundle

    def write(self, view: View, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows in the order of `feature_columns`; times are microseconds."""
        OnlineWriter(self.client, self.release.project).write(ViewLayout.of(view), rows_table(view, rows))

    def user(
        self, user_id: str, *, at: datetime = MADE, subscribed: bool = True, sequence_id: int | None = None
    ) -> None:
        """Write a user's profile, taste and, with a sequence id, the row of the mapping."""
        us = to_micros(at)
        self.write(USER_PROFILES, [(user_id, us, us, 100, "regular", "f", "en", subscribed)])
        self.write(USER_TASTE, [(user_id, us, us, *[1] * 6, *[0.5] * 6)])
        if sequence_id is not None:
            self.write(USER_SEQUENCE, [(user_id, us, us, sequence_id, self.release.mapping_version)])

    def row(self, view: View, user_id: str, at: datetime, values: Mapping[str, Any]) -> None:
        """Write one row of a view, by feature name; what is not named is null."""
        us = to_micros(at)
        self.write(view, [(user_id, us, us, *(values.get(name) for name in view.feature_names))])

    def fill_marker(self, mapping_version: int, *, complete: bool = True) -> None:
        key = fill_marker_key(self.release.project)
        self.client.hset(key, mapping={"mapping_version": mapping_version, "fill_complete": int(complete)})

    def point(self) -> Pointer:
        """Make it live."""
        return self.book.point(self.release.id, after=self.book.live(), at=datetime.now(UTC), by="test", why="test")

    def announce(self) -> None:
        live = self.book.live()
        generation = 1 if live is None else live.generation + 1
        self.book.announce(Announcement(generation=generation, release=self.release.id, at=datetime.now(UTC)))


def opted_in(lake: Lake, users: Mapping[str, bool]) -> None:
    """Write users with their consent to pushes to the lake."""
    rows = [
        {"user_id": u, "signed_up_at": MADE, "subscribed": True, "push_opt_in": yes, "updated_at": MADE}
        for u, yes in users.items()
    ]
    _commit(lake, "users", pa.Table.from_pylist(rows, schema=USER_COLUMNS))


def hand_made(
    lake: Lake,
    settings: Settings,
    *,
    project: str,
    release_id: str = "r0001",
    colour: Colour = Colour.GREEN,
    mapping_version: int = 1,
    endpoint: str | None = None,
    count: int = 60,
    seed: int = 3,
    users: int = USERS,
    more_views: Sequence[ViewLayout] = (),
) -> HandMade:
    """Record and fill a release; `point` makes it live. Users `u0`, `u1`, … have sequence ids 0, 1, …. `more_views` are in
    the plan beside the declared ones; the caller fills them."""
    chosen = contents(count)
    if not lake.files("catalogue"):
        rows = [
            {
                "content_id": content_id,
                "title": f"{category} {content_id}",
                "description": "",
                "category": category,
                "duration_seconds": seconds,
                "published_at": MADE - timedelta(days=100),
                "updated_at": MADE,
            }
            for content_id, category, seconds in chosen
        ]
        _commit(lake, "catalogue", pa.Table.from_pylist(rows, schema=CATALOGUE_COLUMNS))
    bundle = model([one[0] for one in chosen], mapping_version=mapping_version, seed=seed, users=users)
    lake.objects.put(bundle.key, bundle.data)
    declared = ReadPlan.of_features(project, FEATURES)
    plan = replace(declared, views=(*declared.views, *more_views))
    lake.objects.put(f"releases/{release_id}/read_plan.json", plan.to_json())
    lake.objects.put(f"releases/{release_id}/registry.pb", b"hand-made")
    route = Route(model_uri=bundle.key, sha256=bundle.sha256, endpoint=endpoint)
    release = Release(
        registry=f"releases/{release_id}/registry.pb",
        id=release_id,
        colour=colour,
        project=project,
        connection="127.0.0.1",
        registry_sha256=hashlib.sha256(b"hand-made").hexdigest(),
        definitions_sha256=bundle.manifest.definitions_sha256,
        read_plan=f"releases/{release_id}/read_plan.json",
        read_plan_sha256=plan.sha256,
        feature_service=RANKER_SERVICE,
        encoder_sha256=bundle.manifest.encoder_sha256,
        mapping_version=mapping_version,
        routes=dict.fromkeys(Kind, route),
        snapshot_id=bundle.manifest.snapshot_id,
        metrics={},
        created_at=MADE,
    )
    book = ObjectReleaseBook(lake.objects)
    book.record(release)
    made = HandMade(lake, settings, book, release, connect(settings.connection(colour)), plan, bundle)
    us = to_micros(MADE)
    made.write(
        CONTENT_PROFILES,
        [(content_id, us, us, category, seconds, axis(category), 10, 0.5) for content_id, category, seconds in chosen],
    )
    for number in range(users):
        made.user(f"u{number}", sequence_id=number)
    made.fill_marker(mapping_version)
    return made


def _commit(lake: Lake, dataset: str, table: pa.Table) -> None:
    writer = f"hand-made-{dataset}-{hashlib.sha256(str(table.to_pylist()).encode()).hexdigest()[:8]}"
    file = lake.write(dataset, MADE.date(), writer, table)
    lake.commit(Commit(writer=writer, sequence=0, at=MADE, files=(file,)))
