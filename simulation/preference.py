"""Computes what a simulated user wants at a moment: the true preference, for the simulator and for evaluation only."""

from dataclasses import dataclass

import numpy as np

from simulation.catalogue import CATEGORIES, Catalogue
from simulation.population import Population
from stillpoint.events.types import Category

_SLEEP = CATEGORIES.index(Category.SLEEP)
_MOVE = CATEGORIES.index(Category.MOVE)
_MUSIC = CATEGORIES.index(Category.MUSIC)
NO_TOPIC = -1
OUTSIDE = 2.0
"""The utility of choosing nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The context of n users at n moments: a search's topic (or -1), rising exertion, abandoned sleep plays, evening."""

    topic: np.ndarray
    rising: np.ndarray
    sleep_bounces: np.ndarray
    evening: np.ndarray
    restless: np.ndarray


def utility(
    population: Population,
    catalogue: Catalogue,
    users: np.ndarray,
    items: np.ndarray,
    context: Context,
    *,
    effect: bool,
) -> np.ndarray:
    """Return the utility (n, k) of each content of `items` (n, k) for each user, without chance and position bias.

    `effect` False leaves out everything that depends on the context.
    """
    category, topic = catalogue.category[items], catalogue.topic[items]
    wanted = (
        population.taste[users[:, None], category]
        + catalogue.quality[items]
        + np.einsum("nl,nkl->nk", population.latent[users], catalogue.latent[items])
    )
    if not effect:
        return np.asarray(wanted)
    need = context.topic[:, None]
    needed_category = catalogue.category_of_topic[context.topic][:, None]
    wanted = wanted + np.where(need == NO_TOPIC, 0.0, np.where(category == needed_category, 2.2, -0.3))
    wanted += np.where((need != NO_TOPIC) & (topic == need), 0.8, 0.0)
    rising = context.rising[:, None]
    wanted += np.where(rising & (category == _MOVE), 2.6, 0.0) - np.where(rising & (category == _SLEEP), 1.5, 0.0)
    strength = np.array([0.0, 0.6, 0.85, 1.0])[np.minimum(context.sleep_bounces, 3)][:, None]
    story = catalogue.is_story[items]
    wanted += strength * np.where(story, -3.5, np.where((category == _SLEEP) | (category == _MUSIC), 2.2, -0.1))
    wanted += np.where(context.restless[:, None] & story & (strength == 0), 1.0, 0.0)
    evening = context.evening[:, None]
    at_night = (category == _SLEEP) * 0.6 + story * 1.0 * (strength == 0) - (category == _MOVE) * 0.5
    return np.asarray(wanted + np.where(evening, at_night, 0.0))


def bounce_probability(
    catalogue: Catalogue, items: np.ndarray, wanted: np.ndarray, context: Context, *, effect: bool
) -> np.ndarray:
    """Return the chance that each content, once started, is abandoned within a minute. Restless users abandon stories more often."""
    chance = 1 / (1 + np.exp(1.5 + 0.5 * wanted))
    if effect:
        chance = np.where(context.restless[:, None] & catalogue.is_story[items], 0.85, chance)
    return np.asarray(chance)


def success_probability(wanted: np.ndarray, bounce: np.ndarray) -> np.ndarray:
    """Return the probability that each content of a shown list is started and not abandoned, without position bias."""
    pull = np.exp(wanted)
    return np.asarray(pull / (pull.sum(axis=1, keepdims=True) + np.exp(OUTSIDE)) * (1 - bounce))
