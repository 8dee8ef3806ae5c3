"""The contents that the simulated app offers."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from simulation.topics import TOPICS
from stillpoint.clock import DAY, to_micros
from stillpoint.events.types import CATALOGUE_COLUMNS, Category

_NARRATORS = ("Ana", "Bo", "Chidi", "Dara", "Eun", "Farid", "Greta", "Hanne", "Imre", "Jun", "Kofi", "Lena")
_CLOSINGS = (
    "No experience needed.",
    "Lie down or sit, as you like.",
    "Best with headphones.",
    "Come back to it whenever you need it.",
    "Take it at your own pace.",
)
CATEGORIES = tuple(Category)
LATENT_LENGTH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Contents as arrays of equal length. `quality`, `latent` and `topic` are hidden: no feature holds them."""

    content_ids: np.ndarray
    titles: tuple[str, ...]
    descriptions: tuple[str, ...]
    category: np.ndarray
    topic: np.ndarray
    duration_seconds: np.ndarray
    published_us: np.ndarray
    quality: np.ndarray
    latent: np.ndarray
    popularity: np.ndarray

    def __len__(self) -> int:
        return len(self.content_ids)

    @property
    def is_story(self) -> np.ndarray:
        """Whether each content is a sleep story."""
        return np.asarray(np.array([topic.is_story for topic in TOPICS])[self.topic])

    @property
    def category_of_topic(self) -> np.ndarray:
        """The category of each topic, as a place in `CATEGORIES`."""
        return np.array([CATEGORIES.index(topic.category) for topic in TOPICS])

    def table(self) -> pa.Table:
        """Return the contents as rows of the lake's `catalogue/`."""
        published = pa.array(self.published_us, pa.timestamp("us", tz="UTC"))
        return pa.table(
            [
                pa.array(self.content_ids.tolist(), pa.string()),
                pa.array(self.titles, pa.string()),
                pa.array(self.descriptions, pa.string()),
                pa.array([CATEGORIES[code].value for code in self.category], pa.string()),
                pa.array(self.duration_seconds, pa.int64()),
                published,
                published,
                pa.nulls(len(self), pa.timestamp("us", tz="UTC")),
                pa.nulls(len(self), pa.bool_()),
            ],
            schema=CATALOGUE_COLUMNS,
        )


def make_catalogue(seed: int, *, count: int, start: datetime) -> Catalogue:
    """Return `count` contents with distinct titles, the same for the same arguments.

    One in twenty is published during the fourteen days from `start`, the others in the two years before.
    """
    rng = np.random.default_rng([seed, 1])
    topic = np.arange(count) % len(TOPICS)
    titles, descriptions, taken = [], [], set()
    minutes = np.empty(count)
    for place in range(count):
        chosen = TOPICS[topic[place]]
        subject = chosen.subjects[rng.integers(len(chosen.subjects))]
        title = chosen.forms[rng.integers(len(chosen.forms))].format(subject)
        if title in taken:
            title = f"{title}, with {_NARRATORS[rng.integers(len(_NARRATORS))]}"
        part = 2
        while title in taken:
            title, part = f"{title.split(', Part')[0]}, Part {part}", part + 1
        taken.add(title)
        titles.append(title)
        descriptions.append(f"{chosen.purpose}. {_CLOSINGS[rng.integers(len(_CLOSINGS))]}")
        minutes[place] = rng.uniform(*chosen.minutes)
    age_days = np.where(rng.random(count) < 0.05, -rng.uniform(0, 14, count), rng.uniform(1, 730, count))
    quality = rng.normal(0, 0.5, count)
    popularity = np.exp(quality + rng.normal(0, 0.7, count))
    return Catalogue(
        content_ids=np.array([f"c{place:04d}" for place in range(count)], dtype=object),
        titles=tuple(titles),
        descriptions=tuple(descriptions),
        category=np.array([CATEGORIES.index(TOPICS[code].category) for code in topic]),
        topic=topic,
        duration_seconds=(minutes * 60).astype(np.int64),
        published_us=to_micros(start) - (age_days * DAY).astype(np.int64),
        quality=quality,
        latent=rng.normal(0, 1, (count, LATENT_LENGTH)),
        popularity=popularity / popularity.sum(),
    )
