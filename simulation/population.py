"""The simulated users and their lasting tastes."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from simulation.catalogue import CATEGORIES, LATENT_LENGTH
from stillpoint.clock import DAY, to_micros
from stillpoint.events.types import USER_COLUMNS, Platform

PLATFORMS = tuple(Platform)
_GENDERS = ("female", "male", "nonbinary", None)
_LOCALES = ("en-US", "en-GB", "de-DE", "fr-FR", "es-ES", "pt-BR", "ja-JP", None)
_UTC_OFFSET_HOURS = np.array([-6, 0, 1, 1, 1, -3, 9, 0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Users as arrays of equal length. `taste` and `latent` are hidden: no feature holds them."""

    user_ids: np.ndarray
    signed_up_us: np.ndarray
    gender: np.ndarray
    locale: np.ndarray
    subscribed: np.ndarray
    push_opt_in: np.ndarray
    platform: np.ndarray
    utc_offset_us: np.ndarray
    taste: np.ndarray
    latent: np.ndarray
    sessions_per_day: np.ndarray
    evening_share: np.ndarray
    has_watch: np.ndarray
    subscription_change_us: np.ndarray

    def __len__(self) -> int:
        return len(self.user_ids)

    def table(self, until: datetime) -> pa.Table:
        """Return the rows of the lake's `users/` that are known by `until`: sign-ups and changed subscriptions."""
        changed = np.flatnonzero(self.subscription_change_us < to_micros(until))
        signed_up = np.flatnonzero(self.signed_up_us < to_micros(until))
        who = np.concatenate([signed_up, changed])
        subscribed = np.concatenate([self.subscribed[signed_up], ~self.subscribed[changed]])
        updated = np.concatenate([self.signed_up_us[signed_up], self.subscription_change_us[changed]])
        return pa.table(
            [
                pa.array(self.user_ids[who].tolist(), pa.string()),
                pa.array(self.signed_up_us[who], pa.timestamp("us", tz="UTC")),
                pa.array([_GENDERS[code] for code in self.gender[who]], pa.string()),
                pa.array([_LOCALES[code] for code in self.locale[who]], pa.string()),
                pa.array(subscribed, pa.bool_()),
                pa.array(self.push_opt_in[who], pa.bool_()),
                pa.array(updated, pa.timestamp("us", tz="UTC")),
            ],
            schema=USER_COLUMNS,
        ).sort_by([("updated_at", "ascending"), ("user_id", "ascending")])


def make_population(seed: int, *, count: int, start: datetime) -> Population:
    """Return `count` users, the same for the same arguments.

    Around `start` one in seven is new (some sign up during the fourteen days after it), two in five are loyal. One in
    fifty changes the subscription within those days.
    """
    rng = np.random.default_rng([seed, 2])
    kind = rng.choice(3, count, p=[0.15, 0.45, 0.4])
    low, high = np.array([-14, 30, 365]), np.array([30, 365, 1500])
    age_days = rng.uniform(low[kind], high[kind])
    locale = rng.choice(len(_LOCALES), count, p=[0.35, 0.15, 0.12, 0.1, 0.1, 0.08, 0.06, 0.04])
    changes = rng.random(count) < 0.02
    change_us = to_micros(start) + (rng.uniform(0, 14, count) * DAY).astype(np.int64)
    signed_up_us = to_micros(start) - (age_days * DAY).astype(np.int64)
    return Population(
        user_ids=np.array([f"u{place:06d}" for place in range(count)], dtype=object),
        signed_up_us=signed_up_us,
        gender=rng.choice(len(_GENDERS), count, p=[0.5, 0.38, 0.04, 0.08]),
        locale=locale,
        subscribed=rng.random(count) < 0.55,
        push_opt_in=rng.random(count) < 0.7,
        platform=rng.choice(len(PLATFORMS), count, p=[0.5, 0.38, 0.12]),
        utc_offset_us=_UTC_OFFSET_HOURS[locale] * (DAY // 24),
        taste=np.log(rng.dirichlet(np.full(len(CATEGORIES), 1.2), count) * len(CATEGORIES) + 0.15),
        latent=rng.normal(0, 0.3, (count, LATENT_LENGTH)),
        sessions_per_day=rng.gamma(2.5, 0.55, count),
        evening_share=rng.beta(2, 2, count),
        has_watch=rng.random(count) < 0.6,
        subscription_change_us=np.where(changes & (change_us > signed_up_us), change_us, np.iinfo(np.int64).max),
    )
