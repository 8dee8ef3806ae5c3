"""Takes snapshots: immutable training sets with the features that were known when each content was shown.

Labels come from impressions and are joined through Feast with what had happened and arrived by then. Nothing that happened or arrived
after the cutoff can change a snapshot (`stillpoint/snapshots.py` says how it is kept).
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import feast
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads

from stillpoint.app.entities import user
from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.errors import DataRefused
from stillpoint.lake.datasets import DateRange
from stillpoint.lake.tables import Lake
from stillpoint.snapshot_definition import FeaturesFrom, LabelDefinition
from stillpoint.snapshots import Expectation, Snapshot, definitions_sha256, keep_snapshot, stored_rows
from stillpoint.vector_columns import without_unused
from training.joined_features import AS_OF, PointInTime, feature_rows
from training.labels import LABEL_EVENT_TYPES, label_rows
from training.offered import offered_then
from training.served_features import Differences, ServedLists

MINIMUM_ROWS = 500
CHUNK_ROWS = 50_000


def make_snapshot(
    lake: Lake,
    store: feast.FeatureStore,
    *,
    cutoff: datetime,
    encoder_sha256: str,
    first: datetime | None = None,
    definition: LabelDefinition | None = None,
    features_from: FeaturesFrom = FeaturesFrom.JOIN,
    expect: Callable[[pa.Table], Sequence[Expectation]] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Snapshot:
    """Label what was shown until `cutoff`, join the features known at each impression, and store the result in the lake.

    Contents that were shown although the catalogue did not offer them then (not published yet, ended, withdrawn) are left out.

    Making the same snapshot again changes nothing and returns the first one's manifest. Reads the lake, and features only
    through `store.get_historical_features`. The result of `expect` on the rows goes into the manifest.

    From the served log, rows are the shown items of lists in the log, with the user's features as they were read then. The manifest
    says how far these are from the features joined for that time.

    Raises:
        DataRefused: too few labels, or labels of one class only.
        UnknownFeature: the store's service lacks a declared feature, or the store does not know the service.
    """
    definition = definition or LabelDefinition()
    spine = _spine(lake, cutoff, first, definition).with_columns(pl.col("event_timestamp").alias(AS_OF))
    served = None
    if features_from is FeaturesFrom.SERVED_LOG:
        served = ServedLists(lake, spine, cutoff=cutoff)
        spine = served.of(spine)
    positives = int(spine["label"].sum())
    if len(spine) < MINIMUM_ROWS or positives in (0, len(spine)):
        raise DataRefused(
            f"{len(spine)} labelled rows{' of lists in the served log' if served else ''} with {positives} successes until {cutoff:%Y-%m-%d %H:%M} UTC; expected at least "
            f"{MINIMUM_ROWS} rows of both classes: give a later cutoff, or more history"
        )
    features = lake.features
    join, parts, differences = PointInTime(store, features), [], Differences()
    of_users = [one.name for view in features.of(user) for one in view if one.dtype.is_scalar]
    of_users += [one.name for one in features.request_features]
    for start in range(0, len(spine), CHUNK_ROWS):
        chunk = spine.slice(start, CHUNK_ROWS)
        columns = join.join(chunk)
        rows = feature_rows(features, chunk, columns)
        if served is not None:
            joined, rows = rows, feature_rows(features, chunk, columns | served.columns(chunk))
            differences.add(rows, joined, of_users)
        parts.append(rows)
        progress(min(1.0, (start + CHUNK_ROWS) / len(spine)))
    rows = without_unused(pa.concat_tables(parts)).combine_chunks()
    data, rows_sha256 = stored_rows(rows)
    body: dict[str, Any] = {
        "format_version": 1,
        "feature_service": RANKER_SERVICE,
        "first": first,
        "cutoff": cutoff,
        "rows": rows.num_rows,
        "positives": positives,
        "columns": {field.name: str(field.type) for field in rows.schema},
        "definitions_sha256": definitions_sha256(features),
        "encoder_sha256": encoder_sha256,
        "label": definition,
        "data": "simulated" if _is_simulated(lake) else "observed",
        "rows_sha256": rows_sha256,
        "features_from": features_from,
        "as_of_first": spine[AS_OF].min(),
        "as_of_last": spine[AS_OF].max(),
    }
    found = None if served is None else differences.features()
    return keep_snapshot(lake, body, rows, data, differences=found, expect=expect)


def _spine(lake: Lake, cutoff: datetime, first: datetime | None, definition: LabelDefinition) -> pl.DataFrame:
    dates = DateRange(first.date() if first else None, cutoff.date())
    kinds = pads.field("type").isin([kind.value for kind in LABEL_EVENT_TYPES])
    columns = ["event_id", "user_id", "type", "event_timestamp", "arrived_at", "play_id", "content_id"]
    columns += ["position_seconds", "recommendation_id", "kind", "items", "verdict", "sequence"]
    events = lake.read("events", dates, columns=columns, where=kinds)
    shown = label_rows(events, cutoff=cutoff, first=first, definition=definition)
    return shown.filter(offered_then(shown, lake.read("catalogue"), known=cutoff))


def _is_simulated(lake: Lake) -> bool:
    return any(commit.properties.get("simulated") for commit in lake.commits())
