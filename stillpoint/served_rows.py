"""The columns of the lake's `served/`: the features and release behind each prediction.

One row per prediction that was made. `views` holds the user's rows as they were read: values as JSON (numbers exact,
embeddings as lists of float32), with the status and both timestamps, so that parity can recompute each one.
"""

from collections.abc import Iterable

import pyarrow as pa

from stillpoint.events.types import TIMESTAMP

SERVED_GROUP = 2_000
"""Rows per row group in the log's files: the smallest unit that is read."""

SERVED_IDS = "recommendation_ids"
"""The property of the log's commits that lists prefixes of the ids that a commit adds."""

SERVED_MESSAGES = "messages"
"""The property of a commit of the log that names the messages of the served queue whose rows it adds."""

ID_LENGTH = 8


def named_ids(recommendation_ids: Iterable[str]) -> str:
    """Return the value of the property `SERVED_IDS`: a prefix of each id that tells it from nearly all others."""
    return " ".join(sorted({one[:ID_LENGTH] for one in recommendation_ids}))


def names_id(named: str, recommendation_id: str) -> bool:
    """Return whether an id may be among those that a `SERVED_IDS` property lists."""
    return f" {recommendation_id[:ID_LENGTH]} " in f" {named} "


SERVED_VIEW = pa.struct(
    [
        pa.field("view", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("event_timestamp", TIMESTAMP),
        pa.field("created_timestamp", TIMESTAMP),
        pa.field("values", pa.string(), nullable=False),
    ]
)

SERVED_COLUMNS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("recommendation_id", pa.string(), nullable=False),
        pa.field("served_at", TIMESTAMP, nullable=False),
        pa.field("release", pa.string(), nullable=False),
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("trigger", pa.string()),
        pa.field("items", pa.list_(pa.string()), nullable=False),
        pa.field("candidates", pa.list_(pa.string()), nullable=False),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),
        pa.field("views", pa.list_(SERVED_VIEW), nullable=False),
    ]
)
