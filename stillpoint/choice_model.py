"""The choice model: what users choose among shown contents, by content, user and situation. (pure)

The utility of a content is its appeal, plus the fit of the user's factors to the content's, plus the fit of the situation
(searches, session, body: every real-time column) to what the content is about (its texts and embeddings). Situation and content are
encoded as short vectors, and a learned matrix joins them; a content that was never shown has a vector too.

Training and serving call the same functions, so that a model sees the same numbers in both.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.errors import ModelRefused

Columns = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]

CONTEXT_AFFINITY = "context_affinity"
CONTENT_APPEAL = "content_appeal"
CHOICE_FEATURES = (CONTEXT_AFFINITY, CONTENT_APPEAL)
"""The columns that a choice model computes; the collaborative score is the third, computed from the factors."""


@dataclass(frozen=True, slots=True)
class VectorPart:
    """An embedding column: centred and projected on `components` (length, k), behind a 1 that says that it is there.

    With `age`, a column of seconds, all of it counts half after each `half_life`; 0 if missing.
    """

    name: str
    mean: Floats
    components: Floats
    age: str = ""
    half_life: float = 0.0

    def encode(self, columns: Columns) -> Floats:
        values = columns[self.name].astype(np.float32, copy=False)
        known = ~np.isnan(values[:, :1])
        projected = np.einsum("nd,dk->nk", np.where(known, values - self.mean, 0), self.components)
        encoded = np.concatenate([known.astype(np.float32), projected], axis=1)
        if not self.age:
            return encoded
        fresh = np.exp2(-columns[self.age].astype(np.float64, copy=False) / self.half_life)
        weighted: Floats = np.where(np.isnan(fresh), 0, fresh).astype(np.float32)[:, None] * encoded
        return weighted


@dataclass(frozen=True, slots=True)
class NumberPart:
    """A column of numbers or flags: standardised, at most three deviations from its mean, 0 if missing."""

    name: str
    mean: float
    scale: float

    def encode(self, columns: Columns) -> Floats:
        values = np.clip((columns[self.name].astype(np.float64, copy=False) - self.mean) / self.scale, -3, 3)
        return np.where(np.isnan(values), 0, values).astype(np.float32)[:, None]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A column of texts: 1 at the value's place, all 0 for another value."""

    name: str
    values: tuple[str, ...]

    def encode(self, columns: Columns) -> Floats:
        places = {value: place for place, value in enumerate(self.values)}
        codes = np.array([places.get(value, -1) for value in columns[self.name].tolist()], np.intp)
        found = np.zeros((len(codes), len(self.values)), np.float32)
        found[codes >= 0, codes[codes >= 0]] = 1
        return found


Part = VectorPart | NumberPart | TextPart


@dataclass(frozen=True, slots=True)
class ChoiceModel:
    """The parts that encode a situation and a content, and the learned matrix (situation's width, content's width).

    `appeal` (content's width) is what a content's vector alone is worth: the appeal of a content that was never shown.
    """

    context: tuple[Part, ...]
    content: tuple[Part, ...]
    weights: Floats
    appeal: Floats
    inputs: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        ages = (part.age for part in self.context if isinstance(part, VectorPart) and part.age)
        object.__setattr__(self, "inputs", frozenset([*(part.name for part in (*self.context, *self.content)), *ages]))

    def content_vectors(self, columns: Columns) -> Floats:
        """Return one vector per content; equal for equal values, whatever the other rows hold."""
        return encoded(self.content, columns)

    def context_weights(self, columns: Columns) -> Floats:
        """Return per row of the situation what each number of a content's vector is worth in it."""
        return np.asarray(np.einsum("nc,cw->nw", encoded(self.context, columns), self.weights), np.float32)

    def affinity(self, weights: Floats, vectors: Floats) -> npt.NDArray[np.float64]:
        """Return how well contents fit: `weights` (n or 1, w) and `vectors` (n, w). A row does not depend on the others."""
        if len(weights) == 1 != len(vectors):
            return np.asarray(np.einsum("w,nw->n", weights[0], vectors), np.float64)
        return np.asarray(np.einsum("nw,nw->n", weights, vectors), np.float64)

    def vector_appeal(self, vectors: Floats) -> npt.NDArray[np.float64]:
        """Return the appeal of contents by their vectors alone."""
        return np.asarray(np.einsum("w,nw->n", self.appeal, vectors), np.float64)

    def dump(self) -> bytes:
        """Return the model as bytes, the same for the same model."""
        arrays: dict[str, npt.NDArray[Any]] = {"weights": np.ascontiguousarray(self.weights), "appeal": self.appeal}
        for side, parts in (("context", self.context), ("content", self.content)):
            for place, part in enumerate(parts):
                key = f"{side}-{place:03d}"
                match part:
                    case VectorPart():
                        rows = np.concatenate([part.mean[None, :], part.components.T])
                        arrays[f"{key}-vector-{part.name}"] = np.ascontiguousarray(rows)
                        arrays[f"{key}:age"] = np.array([part.age, str(part.half_life)])
                    case NumberPart():
                        arrays[f"{key}-number-{part.name}"] = np.array([part.mean, part.scale])
                    case TextPart():
                        arrays[f"{key}-text-{part.name}"] = np.array(part.values, np.str_)
        sink = io.BytesIO()
        np.savez_compressed(sink, **arrays)  # type: ignore[arg-type]  # the stubs take the names for parameters
        return sink.getvalue()

    @classmethod
    def load(cls, data: bytes) -> "ChoiceModel":
        """Return the model that `dump` wrote.

        Raises:
            ModelRefused: the bytes hold no choice model, or parts that do not fit each other.
        """
        sides: dict[str, list[Part]] = {"context": [], "content": []}
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                for key in sorted(name for name in arrays.files if name.count("-") >= 3):
                    side, place, kind, name = key.split("-", 3)
                    age = arrays[f"{side}-{place}:age"] if kind == "vector" else None
                    sides[side].append(_part(kind, name, arrays[key], age))
                made = cls(tuple(sides["context"]), tuple(sides["content"]), arrays["weights"], arrays["appeal"])
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise ModelRefused(f"the choice model cannot be read: {error}") from None
        wanted = (_width(made.context), _width(made.content))
        if made.weights.shape != wanted or made.appeal.shape != wanted[1:]:
            raise ModelRefused(
                f"the choice model's matrix has shape {made.weights.shape} and its appeal {made.appeal.shape}; expected {wanted}"
            )
        return made


def encoded(parts: Sequence[Part], columns: Columns) -> Floats:
    """Return the parts' numbers side by side, (n, width); (rows, 0) without parts."""
    if not parts:
        return np.zeros((max((len(values) for values in columns.values()), default=0), 0), np.float32)
    return np.concatenate([part.encode(columns) for part in parts], axis=1)


def _part(kind: str, name: str, array: npt.NDArray[Any], age: npt.NDArray[Any] | None) -> Part:
    if kind == "vector" and age is not None:
        return VectorPart(name, array[0], np.ascontiguousarray(array[1:].T), str(age[0]), float(age[1]))
    if kind == "number":
        return NumberPart(name, float(array[0]), float(array[1]))
    if kind == "text":
        return TextPart(name, tuple(str(value) for value in array))
    raise ValueError(f"{name} is of kind {kind!r}")


def _width(parts: Sequence[Part]) -> int:
    return sum(
        len(part.values)
        if isinstance(part, TextPart)
        else part.components.shape[1] + 1
        if isinstance(part, VectorPart)
        else 1
        for part in parts
    )
