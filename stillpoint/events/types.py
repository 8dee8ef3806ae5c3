"""The columns of stored events and of refused records, whatever the app, and the verdicts.

Which types and fields there are, an app declares. Parsing and the rules for a bad event live in
`stillpoint.events.parsing`; the verdict on a good one in `stillpoint.features.streamed.judging`.
"""

from enum import StrEnum

import pyarrow as pa

SCHEMA_VERSION = 1


class EventType(StrEnum):
    LOGIN = "login"
    SUBSCRIPTION_RENEWED = "subscription_renewed"
    NAVIGATION = "navigation"
    SEARCH = "search"
    CONTENT_START = "content_start"
    CONTENT_PAUSE = "content_pause"
    CONTENT_EXIT = "content_exit"
    CONTENT_COMPLETE = "content_complete"
    BIOMETRIC = "biometric"
    IMPRESSION = "impression"


class Platform(StrEnum):
    IOS = "ios"
    ANDROID = "android"
    WEB = "web"


class Category(StrEnum):
    SLEEP = "sleep"
    FOCUS = "focus"
    MOVE = "move"
    MEDITATE = "meditate"
    STRESS = "stress"
    MUSIC = "music"


class Verdict(StrEnum):
    """The outcome of one record: each record gets exactly one verdict, so their counts add up to the records read."""

    ON_TIME = "on_time"
    DUPLICATE = "duplicate"
    LATE = "late"
    ERASED = "erased"
    QUARANTINED = "quarantined"


TIMESTAMP = pa.timestamp("us", tz="UTC")

HISTORY_SHARD = "simulated"
"""The origin of events that were loaded as history and never passed the stream."""

ENVELOPE_COLUMNS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("event_timestamp", TIMESTAMP, nullable=False),
        pa.field("arrived_at", TIMESTAMP, nullable=False),
        pa.field("platform", pa.string(), nullable=False),
    ]
)
"""What every row of the lake's `events/` begins with; the fields of the app's types follow (`events.recorded`)."""

VERDICT_COLUMNS = pa.schema(
    [
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("sequence", pa.string(), nullable=False),
    ]
)
"""What every row of the lake's `events/` ends with: on-time, late and duplicate records are there."""

RECORD_COLUMNS = pa.schema([*ENVELOPE_COLUMNS, *VERDICT_COLUMNS])
"""What a row of the lake's `events/` has, whatever the app."""

QUARANTINE_COLUMNS = pa.schema(
    [
        pa.field("arrived_at", TIMESTAMP, nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("sequence", pa.string(), nullable=False),
        pa.field("partition_key", pa.string(), nullable=False),
        pa.field("field", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
"""A row of the lake's `quarantine/`: the record's original bytes with the reason and the field at fault."""

USER_COLUMNS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("signed_up_at", TIMESTAMP, nullable=False),
        pa.field("gender", pa.string()),
        pa.field("locale", pa.string()),
        pa.field("subscribed", pa.bool_(), nullable=False),
        pa.field("push_opt_in", pa.bool_(), nullable=False),
        pa.field("updated_at", TIMESTAMP, nullable=False),
    ]
)

CATALOGUE_COLUMNS = pa.schema(
    [
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("duration_seconds", pa.int64(), nullable=False),
        pa.field("published_at", TIMESTAMP, nullable=False),
        pa.field("updated_at", TIMESTAMP, nullable=False),
        pa.field("until", TIMESTAMP),
        pa.field("withdrawn", pa.bool_()),
    ]
)
"""A row of the lake's `catalogue/`. A content may be shown from `published_at` until `until` (null: no end), unless it is
`withdrawn` (null: as the row before says; not, if none does). Files without these last two columns count as null."""
