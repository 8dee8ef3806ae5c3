"""The declared features: names, types, units, ranges, windows and null rules.

Everything else derives from here: Feast's views, the schemas in the lake, expectations, the columns of a model.
"""

from datetime import timedelta

from stillpoint.app.entities import Entity as Entity
from stillpoint.app.entities import user as user
from stillpoint.app.records import Feature as Feature
from stillpoint.app.records import Origin as Origin
from stillpoint.app.records import View as View
from stillpoint.dtypes import DType as DType
from stillpoint.events.types import Category, EventType

EMBEDDING_LENGTH = 256
SESSION_GAP = timedelta(minutes=30)
BOUNCE_POSITION_SECONDS = 60
SEARCH_WINDOW = timedelta(hours=24)
SEARCHES_EMBEDDED = 5
BIOMETRIC_WINDOW = timedelta(minutes=10)
ALLOWED_LATENESS = timedelta(minutes=10)
FUTURE_TOLERANCE = timedelta(seconds=60)


content = Entity("content")


def _label(window: timedelta) -> str:
    """Return a window's label as it stands in a feature's name: `10m`, `24h`, `30d`."""
    seconds = int(window.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0 and (unit != "d" or seconds > 86_400):
            return f"{seconds // size}{unit}"
    raise ValueError(f"window {window} is not a whole number of minutes")


SESSION_EVENT_TYPES = frozenset(map(str, set(EventType) - {EventType.BIOMETRIC, EventType.IMPRESSION}))
_B = _label(BIOMETRIC_WINDOW)
_S = _label(SEARCH_WINDOW)
TASTE_WINDOW = timedelta(days=30)
POPULARITY_WINDOW = timedelta(days=7)
_T = _label(TASTE_WINDOW)
_P = _label(POPULARITY_WINDOW)

# fmt: off: the declarations read as tables
SESSION_BOUNCE_RATES = View(
    name="session_bounce_rates",
    entity=user,
    origin=Origin.STREAMED,
    ttl=timedelta(minutes=30),
    event_types=SESSION_EVENT_TYPES,
    description="Plays of the current session, and the share that was abandoned within a minute.",
    features=(
        Feature(
            name="session_play_count",
            dtype=DType.INT64,
            unit="plays",
            minimum=0,
            description="Distinct plays started in the current session.",
        ),
        Feature(
            name="session_sleep_play_count",
            dtype=DType.INT64,
            unit="plays",
            minimum=0,
            description="Of those, plays of sleep content.",
        ),
        Feature(
            name="session_bounce_rate",
            dtype=DType.FLOAT64,
            unit="share",
            minimum=0,
            maximum=1,
            null_when="no play in the session",
            description="Share of the session's plays exited before 60 seconds.",
        ),
        Feature(
            name="session_sleep_bounce_rate",
            dtype=DType.FLOAT64,
            unit="share",
            minimum=0,
            maximum=1,
            null_when="no sleep play in the session",
            description="Share of the session's sleep plays exited before 60 seconds.",
        ),
        Feature(
            name="session_age_seconds",
            dtype=DType.FLOAT64,
            unit="seconds",
            minimum=0,
            description="Time since the session's first event.",
        ),
    ),
)

SEARCH_EMBEDDINGS = View(
    name="search_embeddings",
    entity=user,
    origin=Origin.STREAMED,
    ttl=SEARCH_WINDOW,
    event_types=frozenset({"search"}),
    description="What the user searched for lately, as one direction in the encoder's space.",
    features=(
        Feature(
            name="search_embedding",
            dtype=DType.EMBEDDING,
            unit="unit vector",
            minimum=-1,
            maximum=1,
            null_when="no search in the window, or the weighted sum is zero",
            description="Normalised sum of the last five searches, weights halving with each.",
        ),
        Feature(
            name=f"search_count_{_S}",
            dtype=DType.INT64,
            unit="searches",
            minimum=0,
            description="Searches in the window.",
        ),
    ),
)

BIOMETRICS = View(
    name="biometrics",
    entity=user,
    origin=Origin.STREAMED,
    ttl=timedelta(minutes=15),
    event_types=frozenset({"biometric"}),
    description="Pulse and steps of the last ten minutes, and whether both rise.",
    features=(
        Feature(
            name=f"heart_rate_mean_{_B}",
            dtype=DType.FLOAT64,
            unit="bpm",
            minimum=25,
            maximum=250,
            null_when="no heart rate in the window",
            description="Mean heart rate.",
        ),
        Feature(
            name=f"heart_rate_slope_{_B}",
            dtype=DType.FLOAT64,
            unit="bpm per minute",
            null_when="fewer than two distinct times with a heart rate",
            description="Least-squares slope of the heart rate over time.",
        ),
        Feature(
            name=f"steps_sum_{_B}",
            dtype=DType.INT64,
            unit="steps",
            minimum=0,
            null_when="no sample in the window carries steps",
            description="Steps taken.",
        ),
        Feature(
            name=f"steps_trend_{_B}",
            dtype=DType.INT64,
            unit="steps",
            null_when="no sample in the window carries steps",
            description="Steps of the newer half of the window minus those of the older half.",
        ),
        Feature(
            name="exertion_rising",
            dtype=DType.BOOL,
            unit="flag",
            null_when="slope or trend is null",
            description="Slope of at least 1 bpm per minute and a trend of at least 20 steps.",
        ),
    ),
)

USER_PROFILES = View(
    name="user_profiles",
    entity=user,
    origin=Origin.DAILY,
    ttl=None,
    description="Who the user is: tenure, gender, locale, subscription.",
    features=(
        Feature(name="tenure_days", dtype=DType.INT64, unit="days", minimum=0, description="Whole days since sign-up."),
        Feature(
            name="tenure_level",
            dtype=DType.STRING,
            unit="level",
            values=("new", "regular", "loyal"),
            description="new under 30 days, loyal from 365.",
        ),
        Feature(
            name="gender", dtype=DType.STRING, unit="text", null_when="not stated", description="As stated by the user."
        ),
        Feature(
            name="locale",
            dtype=DType.STRING,
            unit="BCP 47",
            null_when="unknown",
            description="The app's language and region.",
        ),
        Feature(name="subscribed", dtype=DType.BOOL, unit="flag", description="Has a paid subscription."),
    ),
)

USER_TASTE = View(
    name="user_taste",
    entity=user,
    origin=Origin.DAILY,
    ttl=None,
    description="What the user played in the last thirty days, by category.",
    features=tuple(
        Feature(
            name=f"plays_{_T}_{category}",
            dtype=DType.INT64,
            unit="plays",
            minimum=0,
            description=f"Distinct plays of {category} content.",
        )
        for category in Category
    )
    + tuple(
        Feature(
            name=f"completion_rate_{_T}_{category}",
            dtype=DType.FLOAT64,
            unit="share",
            minimum=0,
            maximum=1,
            null_when="no play in the window",
            description=f"Share of the {category} plays that were completed.",
        )
        for category in Category
    ),
)

CONTENT_PROFILES = View(
    name="content_profiles",
    entity=content,
    origin=Origin.DAILY,
    ttl=None,
    description="What a content is, and how it was received lately.",
    features=(
        Feature(
            name="category",
            dtype=DType.STRING,
            unit="category",
            values=tuple(Category),
            description="The content's category.",
        ),
        Feature(name="duration_seconds", dtype=DType.INT64, unit="seconds", minimum=1, description="Length."),
        Feature(
            name="title_embedding",
            dtype=DType.EMBEDDING,
            unit="unit vector",
            minimum=-1,
            maximum=1,
            null_when="the title has no known word",
            description="The title in the encoder's space.",
        ),
        Feature(
            name=f"plays_{_P}", dtype=DType.INT64, unit="plays", minimum=0, description="Distinct plays of all users."
        ),
        Feature(
            name=f"completion_rate_{_T}",
            dtype=DType.FLOAT64,
            unit="share",
            minimum=0,
            maximum=1,
            null_when="no play in the window",
            description="Share of all plays that were completed.",
        ),
    ),
)

USER_SEQUENCE = View(
    name="user_sequence",
    entity=user,
    origin=Origin.MAPPING,
    ttl=None,
    description="The user's row in one release's collaborative filter; never an input of training.",
    features=(
        Feature(
            name="sequence_id", dtype=DType.INT64, unit="index", minimum=0, description="Row of the user's factors."
        ),
        Feature(
            name="mapping_version",
            dtype=DType.INT64,
            unit="version",
            minimum=1,
            description="The mapping that gave the row.",
        ),
    ),
)

# fmt: on

VIEWS: tuple[View, ...] = (
    SESSION_BOUNCE_RATES,
    SEARCH_EMBEDDINGS,
    BIOMETRICS,
    USER_PROFILES,
    USER_TASTE,
    CONTENT_PROFILES,
    USER_SEQUENCE,
)
STREAMED_VIEWS: tuple[View, ...] = tuple(view for view in VIEWS if view.origin is Origin.STREAMED)
DAILY_VIEWS: tuple[View, ...] = tuple(view for view in VIEWS if view.origin is Origin.DAILY)

RANKER_SERVICE = "ranker_v1"
SERVICES: dict[str, tuple[View, ...]] = {
    RANKER_SERVICE: tuple(view for view in VIEWS if view.origin is not Origin.MAPPING),
    **{view.name: (view,) for view in VIEWS},
}
"""Feature services: the ranker's, and one per view."""


def view(name: str) -> View:
    """Return the declaration of view `name`.

    Raises:
        KeyError: there is no such view.
    """
    for declared in VIEWS:
        if declared.name == name:
            return declared
    raise KeyError(f"no view named {name!r}; there are {', '.join(v.name for v in VIEWS)}")
