"""A loaded and verified release: everything that a request uses from its first to its last step."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from inference.ranking.catalogue import ContentTable, load_contents
from inference.ranking.rank import Scorer
from inference.ranking.scorers import InProcessScorer
from inference.ranking.user_features import UserReading
from stillpoint.clock import to_micros
from stillpoint.encoder import Encoder
from stillpoint.errors import ObjectMissing, ReleaseRefused
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.model import ModelBundle
from stillpoint.releases.book import ReleaseBook
from stillpoint.releases.canaries import Canary, read_canaries
from stillpoint.releases.parts import refuse_other_encoder, verified_parts
from stillpoint.releases.records import Pointer, Release, Route
from stillpoint.settings import Settings
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.connection import connect

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedRelease:
    """A release ready to answer requests. `generation` is the pointer's, or the one that it was announced for."""

    release: Release
    generation: int
    plan: ReadPlan
    reader: OnlineReader
    scorers: Mapping[Kind, Scorer]
    contents: ContentTable
    users: UserReading
    canaries: tuple[Canary, ...] = ()

    @property
    def id(self) -> str:
        return self.release.id

    def describe(self) -> dict[str, Any]:
        """Return the answer of `GET /v1/release`."""
        release = self.release
        return {
            "release": release.id,
            "generation": self.generation,
            "colour": str(release.colour),
            "project": release.project,
            "registry": release.registry,
            "definitions_sha256": release.definitions_sha256,
            "read_plan_sha256": release.read_plan_sha256,
            "mapping_version": release.mapping_version,
            "models": {str(kind): route.sha256 for kind, route in release.routes.items()},
        }


MakeScorer = Callable[[Route, ModelBundle], Scorer]


def in_process(route: Route, bundle: ModelBundle) -> Scorer:
    """Return a scorer in this process, even if the route names an endpoint."""
    del route
    return InProcessScorer(bundle)


def load(
    book: ReleaseBook,
    lake: Lake,
    settings: Settings,
    release_id: str,
    generation: int,
    *,
    now: datetime,
    encoder: Encoder | None = None,
    make_scorer: MakeScorer = in_process,
) -> LoadedRelease:
    """Load a release: verify registry, read plan and models by digest, read the contents, and make one test read.

    Raises:
        ReleaseRefused: registry, plan, a model or the encoder is not as recorded, or the colour has no content features.
        StackUnavailable: the lake or Redis does not answer.
    """
    release = book.get(release_id)
    parts = verified_parts(lake.objects, release)
    if encoder is not None:
        refuse_other_encoder(release, encoder.sha256, "this process works")
    reader = OnlineReader(connect(settings.connection(release.colour)), parts.plan)
    now_us = to_micros(now)
    contents = load_contents(lake, reader, now_us=now_us)
    users = UserReading(lake.features)
    reader.read(users.names, {"user_id": ["canary"]}, now_us=now_us)
    return LoadedRelease(
        release=release,
        generation=generation,
        plan=parts.plan,
        reader=reader,
        scorers={kind: make_scorer(route, parts.models[route.sha256]) for kind, route in release.routes.items()},
        contents=contents,
        canaries=_canaries(lake, release_id),
        users=users,
    )


def _canaries(lake: Lake, release_id: str) -> tuple[Canary, ...]:
    try:
        return tuple(read_canaries(lake.objects, release_id))
    except ObjectMissing:
        log.warning("release %s has no canaries: a wrong id mapping would be noticed by the guard alone", release_id)
        return ()


def with_fresh_contents(loaded: LoadedRelease, lake: Lake, *, now: datetime) -> LoadedRelease:
    """Return the same release with catalogue and content features read anew.

    Raises:
        ReleaseRefused: there are no contents.
        StackUnavailable: the lake or Redis does not answer.
    """
    return replace(loaded, contents=load_contents(lake, loaded.reader, now_us=to_micros(now)))


def load_live(
    book: ReleaseBook, lake: Lake, settings: Settings, *, now: datetime, make_scorer: MakeScorer = in_process
) -> LoadedRelease:
    """Load the live release.

    Raises:
        ReleaseRefused: nothing is live yet.
    """
    pointer: Pointer | None = book.live()
    if pointer is None:
        raise ReleaseRefused("no release is live yet; run `stillpoint release prepare`, `check` and `switch` first")
    return load(book, lake, settings, pointer.release, pointer.generation, now=now, make_scorer=make_scorer)
