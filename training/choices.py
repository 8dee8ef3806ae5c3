"""Fits the choice model to what was shown: which content of each list became a success, or none.

Each list is one choice among its contents and nothing at all, so what was shown and not taken counts as much as what was. Contents
further down are seen less; the fit learns what each place is worth and leaves it out of the scores. Factors of users and contents
have Gaussian priors (the penalties below), so a user with few lists stays near the average.

Minimised by Adam over shuffled parts of the lists, the same bits for the same arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from stillpoint.choice_model import ChoiceModel, Part

FACTORS = 8
EPOCHS = 20
PARTS = 64
"""Into how many parts the lists are shuffled in each epoch."""
RATE = 0.05
PLACES = 50
"""Places in a list that are told apart; further ones are as the last."""
PENALTIES = {
    "appeal": 2.0,
    "users": 20.0,
    "contents": 2.0,
    "taste": 2.0,
    "weights": 20.0,
    "places": 0.1,
    "nothing": 0.0,
}
"""Inverse variances of the priors, in units of utility (log-odds)."""

Array = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Shown rows, those of one list together: its place among `starts`' ranges, user, content, place in the list, success.

    `users` is per list. `context` is encoded per list, `vectors` per content; `taste` are the columns of `vectors` in which a
    user's own liking is learned.
    """

    starts: Places
    users: Places
    contents: Places
    places: Places
    labels: Array
    context: Array
    vectors: Array
    taste: int

    def first(self, lists: int) -> "Choices":
        """Return the first lists."""
        rows = int(self.starts[lists]) if lists < len(self.starts) else len(self.contents)
        return Choices(
            starts=self.starts[:lists],
            users=self.users[:lists],
            contents=self.contents[:rows],
            places=self.places[:rows],
            labels=self.labels[:rows],
            context=self.context[:lists],
            vectors=self.vectors,
            taste=self.taste,
        )


@dataclass(frozen=True, slots=True)
class FittedChoices:
    """What was learned: per user and content factors, per content its appeal, and the matrix of situation and content.

    A user's row is their factors, their taste, and 1; a content's row is its factors, its vector's taste columns and its appeal:
    the product of both rows is the collaborative score.
    """

    users: Array
    contents: Array
    weights: Array
    vector_appeal: Array

    def model(self, context: tuple[Part, ...], content: tuple[Part, ...]) -> ChoiceModel:
        """Return the choice model whose sides are encoded by these parts."""
        return ChoiceModel(context, content, self.weights, self.vector_appeal)


def fit(choices: Choices, *, users: int, seed: int, epochs: int = EPOCHS) -> FittedChoices:
    """Fit the model to the lists. `users` is how many users there are; those without a list get the average's factors."""
    rng = np.random.default_rng(seed)
    contents, width = choices.vectors.shape
    lists = len(choices.starts)
    learned: dict[str, Array] = {
        "appeal": np.zeros((contents, 1), np.float32),
        "users": rng.normal(0, 0.1, (users, FACTORS)).astype(np.float32),
        "contents": rng.normal(0, 0.3, (contents, FACTORS)).astype(np.float32),
        "taste": np.zeros((users, choices.taste), np.float32),
        "weights": np.zeros((choices.context.shape[1] + 1, width), np.float32),
        "places": np.zeros((PLACES, 1), np.float32),
        "nothing": np.ones((1, 1), np.float32),
    }
    if lists:
        with threadpool_limits(1, "blas"):
            _descend(learned, choices, rng, epochs)
    seen = np.zeros(users, bool)
    seen[choices.users] = True
    learned["users"][~seen] = 0
    own = np.zeros(contents, bool)
    own[choices.contents] = True
    learned["contents"][~own] = 0
    vector_appeal = learned["weights"][0]
    appeal = learned["appeal"] + (choices.vectors @ vector_appeal)[:, None]
    return FittedChoices(
        users=np.concatenate([learned["users"], learned["taste"], np.ones((users, 1), np.float32)], axis=1),
        contents=np.concatenate([learned["contents"], choices.vectors[:, : choices.taste], appeal], axis=1),
        weights=learned["weights"][1:],
        vector_appeal=vector_appeal,
    )


def _descend(learned: dict[str, Array], choices: Choices, rng: np.random.Generator, epochs: int) -> None:
    lists = len(choices.starts)
    ends = np.append(choices.starts[1:], len(choices.contents))
    lengths = ends - choices.starts
    context = np.concatenate([np.ones((lists, 1), np.float32), choices.context], axis=1)
    size = max(1, -(-lists // PARTS))
    mean = {name: np.zeros_like(values) for name, values in learned.items()}
    square = {name: np.zeros_like(values) for name, values in learned.items()}
    steps, step = epochs * -(-lists // size), 0
    for _ in range(epochs):
        order = rng.permutation(lists)
        for begin in range(0, lists, size):
            part = order[begin : begin + size]
            slopes = _slopes(learned, choices, context[part], part, lengths[part])
            step += 1
            rate = RATE * (1 - step / steps) ** 0.5 + 1e-4
            for name, values in learned.items():
                slope = slopes[name] + PENALTIES[name] * (len(part) / lists) * values
                mean[name] += 0.1 * (slope - mean[name])
                square[name] += 0.01 * (slope * slope - square[name])
                moved = mean[name] / (1 - 0.9**step)
                values -= (rate * moved / (np.sqrt(square[name] / (1 - 0.99**step)) + 1e-8)).astype(np.float32)


def _slopes(
    learned: Mapping[str, Array], choices: Choices, context: Array, part: Places, lengths: Places
) -> dict[str, Array]:
    """Return the gradient of the negative log-likelihood of some lists' choices."""
    begins = np.r_[0, np.cumsum(lengths)[:-1]]
    owner = np.repeat(np.arange(len(part)), lengths)
    rows = np.arange(int(lengths.sum())) - np.repeat(begins - choices.starts[part], lengths)
    content, place = choices.contents[rows], np.minimum(choices.places[rows], PLACES - 1)
    user, labels = choices.users[part], choices.labels[rows]
    wanted = context @ learned["weights"]
    wanted[:, : choices.taste] += learned["taste"][user]
    vectors = choices.vectors[content]
    factors, tastes = learned["users"][user][owner], learned["contents"][content]
    utility = learned["appeal"][content, 0] + learned["places"][place, 0]
    utility += np.einsum("rk,rk->r", factors, tastes) + np.einsum("rw,rw->r", wanted[owner], vectors)
    nothing = learned["nothing"][0, 0]
    top = np.maximum(np.maximum.reduceat(utility, begins), nothing)
    pull = np.exp(utility - top[owner])
    none = np.exp(nothing - top)
    total = np.add.reduceat(pull, begins) + none
    successes = np.add.reduceat(labels, begins)
    chosen = np.maximum(successes, 1)  # a list with several successes counts as several choices
    error = pull / total[owner] * chosen[owner] - labels
    pulled = _sums(vectors * error[:, None], begins)
    slopes = {
        "appeal": _scattered(content, error[:, None], len(learned["appeal"])),
        "users": _scattered(user, _sums(tastes * error[:, None], begins), len(learned["users"])),
        "contents": _scattered(content, factors * error[:, None], len(learned["contents"])),
        "taste": _scattered(user, pulled[:, : choices.taste], len(learned["taste"])),
        "weights": context.T @ pulled,
        "places": _scattered(place, error[:, None], PLACES),
        "nothing": np.array([[(none / total * chosen - (successes == 0)).sum()]]),
    }
    return {name: values.astype(np.float32) for name, values in slopes.items()}


def _sums(values: Array, begins: Places) -> Array:
    return np.add.reduceat(values, begins, axis=0)


def _scattered(places: Places, values: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.float64]:
    """Return the sums of rows by place, (count, width)."""
    return np.stack([np.bincount(places, values[:, k], count) for k in range(values.shape[1])], axis=1)
