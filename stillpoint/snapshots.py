"""A snapshot's manifest and rows, and how it is kept and found again.

A snapshot is `snapshots/<id>/rows.parquet` with `manifest.json`; the id follows from the definitions and the rows, so
the same inputs give the same id and bytes. The rest of the manifest (which files were read, what the expectations found)
describes the first run that took the snapshot, and is no part of the id.
"""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stillpoint.app.feature_set import FeatureSet
from stillpoint.errors import AlreadyExists, CorruptData, DataRefused, NotFound, ObjectMissing
from stillpoint.lake.datasets import DateRange, snapshot_rows
from stillpoint.lake.tables import Lake
from stillpoint.snapshot_definition import FeaturesFrom, LabelDefinition
from stillpoint.vector_columns import without_unused

_ALL_VECTORS = 1 << 30
"""Bytes of distinct vectors up to which each is written once."""
NOT_IN_THE_ID = {"sources", "differences", "expectations"}
"""Fields of a manifest that describe the run that took it, or that follow from the other fields."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expectation(_Part):
    """An expectation of the rows and its result: `unexpected` of `checked` rows violate it."""

    column: str | None
    expected: str
    passed: bool
    checked: int
    unexpected: int


class FeatureDifference(_Part):
    """How a feature that was served differs from the joined one: null equals null, all else bit for bit.

    `largest_difference` is over the rows where both are numbers; `only_served` and `only_joined` count the others.
    """

    feature: str
    rows: int
    equal: int
    only_served: int
    only_joined: int
    largest_difference: float

    @property
    def share_equal(self) -> float:
        return self.equal / self.rows


class Sources(_Part):
    """The committed files that could be read: how many and their rows by dataset, and the list of them in `files`.

    They may hold more than counts: whole days, of which rows that happened or arrived after the cutoff are left out.
    """

    files: str = Field(description="Key of a JSON object: dataset → keys of its files.")
    files_sha256: str
    counts: dict[str, int]
    rows: dict[str, int]


class SnapshotManifest(_Part):
    """What a snapshot holds and how it was made. Times are UTC."""

    format_version: Literal[1] = 1
    id: str
    feature_service: str
    first: AwareDatetime | None
    cutoff: AwareDatetime
    rows: int
    positives: int
    columns: dict[str, str]
    definitions_sha256: str
    encoder_sha256: str
    label: LabelDefinition
    data: Literal["simulated", "observed"]
    rows_sha256: str
    revision: int = Field(default=0, ge=0, description="How often users were erased from it since.")
    as_of_first: AwareDatetime | None = Field(
        default=None, description="Earliest moment at which features were joined."
    )
    as_of_last: AwareDatetime | None = Field(default=None, description="Latest such moment; at most the cutoff.")
    sources: Sources | None = Field(default=None, description="Not known of a snapshot of an earlier format.")
    features_from: FeaturesFrom = FeaturesFrom.JOIN
    differences: tuple[FeatureDifference, ...] | None = Field(
        default=None, description="Served features against joined ones; None: the features are the joined ones."
    )
    expectations: tuple[Expectation, ...] | None = Field(
        default=None, description="None: they were not checked when it was taken."
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A manifest with its rows."""

    manifest: SnapshotManifest
    rows: pa.Table


def definitions_sha256(features: FeatureSet) -> str:
    """Return the digest of the declared features that a model is trained on, their order left out."""
    declared = {
        f"{view.name}:{feature.name}": [feature.dtype, feature.null_when, view.max_age_seconds]
        for view in features.stored
        for feature in view
    } | {one.name: list(one.inputs) for one in features.request_features}
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def keep_snapshot(
    lake: Lake,
    body: dict[str, Any],
    rows: pa.Table,
    data: bytes,
    *,
    differences: Sequence[FeatureDifference] | None,
    expect: Callable[[pa.Table], Sequence[Expectation]] | None,
) -> Snapshot:
    """Write a snapshot, its manifest last; if an equal one is there, that one's manifest stays and is returned.

    `body` are the manifest's fields that the id follows from, and `data` is `rows` as stored.
    """
    identity = SnapshotManifest(id="", **body).model_dump_json(exclude=NOT_IN_THE_ID).encode()
    id = f"s{hashlib.sha256(identity).hexdigest()[:16]}"
    folder = f"snapshots/{id}"
    key = f"{folder}/manifest.json"
    taken = _read_manifest(lake, folder) if key in lake.objects.list(key) else None
    if taken is not None and taken.revision:  # Its first rows hold users who were erased since.
        return load_snapshot(lake, id)
    lake.objects.put(snapshot_rows(folder, 0), data)
    if taken is None:
        manifest = SnapshotManifest(
            id=id,
            **body,
            sources=_sources(lake, folder, body["cutoff"], body["features_from"]),
            differences=None if differences is None else tuple(differences),
            expectations=None if expect is None else tuple(expect(rows)),
        )
        with suppress(AlreadyExists):  # Somebody else took the same just now; the id says that the rows are equal.
            lake.objects.create(key, (manifest.model_dump_json(indent=1) + "\n").encode())
    return Snapshot(_read_manifest(lake, folder), rows)


def _sources(lake: Lake, folder: str, cutoff: datetime, features_from: FeaturesFrom) -> Sources:
    """Write the list of the files that could be read up to the cutoff's day, and return what it amounts to."""
    until = DateRange(None, cutoff.date())
    names = (
        "events",
        *(("served",) if features_from is FeaturesFrom.SERVED_LOG else ()),
        *(f"features/{view.name}" for view in lake.features.stored),
    )
    found = {name: lake.files(name, until) for name in names}
    text = json.dumps({name: [file.path for file in files] for name, files in found.items()}, indent=1).encode()
    digest = hashlib.sha256(text).hexdigest()
    key = f"{folder}/sources-{digest[:16]}.json"
    lake.objects.put(key, text)
    return Sources(
        files=key,
        files_sha256=digest,
        counts={name: len(files) for name, files in found.items()},
        rows={name: sum(file.rows for file in files) for name, files in found.items()},
    )


def stored_rows(rows: pa.Table) -> tuple[bytes, str]:
    """Return rows as they are stored, Parquet, and their digest. Equal rows give equal bytes, which hold no other row's vectors."""
    sink = io.BytesIO()
    pq.write_table(
        without_unused(rows), sink, compression="zstd", coerce_timestamps="us", dictionary_pagesize_limit=_ALL_VECTORS
    )
    return sink.getvalue(), hashlib.sha256(sink.getbuffer()).hexdigest()


def load_snapshot(lake: Lake, snapshot_id: str, *, folder: str | None = None) -> Snapshot:
    """Return a stored snapshot; `folder` is where it lies, if not below `snapshots/`.

    Raises:
        NotFound: there is none. CorruptData: the rows are not those of the manifest.
    """
    folder = f"snapshots/{snapshot_id}" if folder is None else folder
    try:
        manifest = _read_manifest(lake, folder)
    except ObjectMissing:
        known = sorted({key.split("/")[1] for key in lake.objects.list("snapshots/") if key.endswith("manifest.json")})
        raise NotFound(f"there is no snapshot {snapshot_id!r}; there are: {', '.join(known) or 'none'}") from None
    key = snapshot_rows(folder, manifest.revision)
    try:
        data = lake.objects.get(key)
    except ObjectMissing:
        raise CorruptData(f"{lake.root}/{key} is missing; take the snapshot again") from None
    if hashlib.sha256(data).hexdigest() != manifest.rows_sha256:
        raise CorruptData(f"{lake.root}/{key} does not match its manifest; take the snapshot again")
    return Snapshot(manifest, pq.read_table(io.BytesIO(data)))


def _read_manifest(lake: Lake, folder: str) -> SnapshotManifest:
    text = lake.objects.get(f"{folder}/manifest.json")
    try:
        return SnapshotManifest.model_validate_json(text)
    except ValueError as error:
        raise CorruptData(f"{lake.root}/{folder}/manifest.json cannot be read: {error}") from None


def refuse_older_than(manifest: SnapshotManifest, limit: timedelta, *, now: datetime) -> None:
    """Refuse a snapshot whose cutoff lies too far back.

    Raises:
        DataRefused: names the age and the limit.
    """
    age = now - manifest.cutoff
    if age > limit:
        raise DataRefused(
            f"snapshot {manifest.id} ends {age / timedelta(hours=1):.0f} h ago; expected under "
            f"{limit / timedelta(hours=1):.0f} h: run `stillpoint snapshot` again"
        )
