"""A model bundle: signature, trees and factors in one file from training to serving, and how it scores.

A bundle is one `tar.gz`: `manifest.json`, `ranker.ubj` (XGBoost trees), `factors.npz` (users and contents) and, of models that
use its scores, `choices.npz` (the choice model of situation and content).
It lies in the lake as `models/<sha256>.tar.gz`, and its digest is the name that releases record. Whatever does not fit
its signature is refused: a model that guesses about its input answers wrongly without a sign.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from stillpoint.choice_model import CHOICE_FEATURES, CONTENT_APPEAL, CONTEXT_AFFINITY, ChoiceModel
from stillpoint.errors import ModelRefused

if TYPE_CHECKING:
    import xgboost

COLLABORATIVE_SCORE = "collaborative_score"
NO_SEQUENCE_ID = -1

_MANIFEST = "manifest.json"
_RANKER = "ranker.ubj"
_FACTORS = "factors.npz"
_CHOICES = "choices.npz"


class ModelManifest(BaseModel):
    """A model's signature and origin. `feature_order` is the order of the trees' columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    feature_order: tuple[str, ...] = Field(min_length=1)
    categories: dict[str, tuple[str, ...]] = Field(description="Values of each text column; any other counts as null.")
    encoder_sha256: str
    mapping_version: int = Field(ge=1)
    definitions_sha256: str
    snapshot_id: str
    popular: tuple[str, ...] = Field(description="Content ids, the most played first: the fallback without features.")
    created_at: AwareDatetime
    data: Literal["simulated", "observed"] = Field(description="What behaviour it was trained on.")
    metrics: dict[str, float] = {}
    ranker_sha256: str = ""
    factors_sha256: str = ""
    choices_sha256: str | None = None


class ModelBundle:
    """A loaded model. Immutable, and safe to score from several threads at once."""

    def __init__(
        self,
        manifest: ModelManifest,
        *,
        ranker: bytes,
        user_factors: np.ndarray,
        content_factors: np.ndarray,
        content_ids: Sequence[str],
        choices: ChoiceModel | None = None,
    ) -> None:
        """Put a model together from trained parts.

        `ranker` is `Booster.save_raw("ubj")`. Factors are float32, one row per sequence id (and per content id).

        Raises:
            ModelRefused: the parts do not fit each other.
        """
        if len(set(manifest.feature_order)) != len(manifest.feature_order):
            raise ModelRefused("model manifest names a feature twice; each column has one place")
        unplaced = sorted(set(manifest.categories) - set(manifest.feature_order))
        if unplaced:
            raise ModelRefused(
                f"model manifest lists categories of {', '.join(unplaced)}, which is not a feature of it"
            )
        if user_factors.ndim != 2 or content_factors.shape != (len(content_ids), user_factors.shape[1]):
            raise ModelRefused(
                f"model factors have shapes {user_factors.shape} and {content_factors.shape} for {len(content_ids)} "
                "contents; expected (users, k) and (contents, k)"
            )
        learned = [name for name in CHOICE_FEATURES if name in manifest.feature_order]
        if learned and choices is None:
            raise ModelRefused(
                f"model manifest lists {_names(learned)}, which only a choice model computes; there is none"
            )
        self._ranker = ranker
        self._choices = choices
        self._choice_bytes = None if choices is None else choices.dump()
        self._user_factors = np.ascontiguousarray(user_factors, dtype=np.float32)
        self._content_factors = np.ascontiguousarray(content_factors, dtype=np.float32)
        self._content_ids = tuple(content_ids)
        self._content_rows = {content_id: row for row, content_id in enumerate(self._content_ids)}
        self._codes = {
            name: {value: float(code) for code, value in enumerate(values)}
            for name, values in manifest.categories.items()
        }
        factors = io.BytesIO()
        np.savez_compressed(
            factors,
            user_factors=self._user_factors,
            content_factors=self._content_factors,
            content_ids=np.array(self._content_ids, dtype=np.str_),
        )
        self._factors = factors.getvalue()
        self.manifest = manifest.model_copy(
            update={
                "ranker_sha256": _sha256(ranker),
                "factors_sha256": _sha256(self._factors),
                "choices_sha256": None if self._choice_bytes is None else _sha256(self._choice_bytes),
            }
        )
        self._booster = self._load_booster()

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The columns that `score` takes: all features but the collaborative score, which the model computes."""
        return tuple(name for name in self.manifest.feature_order if name != COLLABORATIVE_SCORE)

    @property
    def user_count(self) -> int:
        """Number of users of the collaborative filter; valid sequence ids are from 0 to less than this."""
        return len(self._user_factors)

    @cached_property
    def data(self) -> bytes:
        """The bundle's bytes. The same parts give the same bytes."""
        plain = io.BytesIO()
        document = self.manifest.model_dump(mode="json", exclude=None if self._choice_bytes else {"choices_sha256"})
        manifest = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
        parts = {_MANIFEST: manifest, _RANKER: self._ranker, _FACTORS: self._factors}
        if self._choice_bytes is not None:
            parts[_CHOICES] = self._choice_bytes
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in parts.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o644
                archive.addfile(member, io.BytesIO(content))
        return gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)

    @cached_property
    def sha256(self) -> str:
        """The digest of the bundle's bytes, by which releases name it."""
        return _sha256(self.data)

    @property
    def key(self) -> str:
        """The bundle's key in the lake."""
        return model_key(self.sha256)

    @classmethod
    def load(cls, source: Path | str | bytes, *, expected_sha256: str | None = None) -> "ModelBundle":
        """Read a bundle from its bytes or from a file.

        Raises:
            ModelRefused: the digest is not `expected_sha256`, a part is missing, extra, damaged or of another model.
        """
        data = source if isinstance(source, bytes) else _read(Path(source))
        found = _sha256(data)
        if expected_sha256 is not None and found != expected_sha256:
            raise ModelRefused(
                f"model artifact has sha256 {found}; expected {expected_sha256}: it is damaged or belongs to another "
                "release, fetch it again by its digest"
            )
        parts = _unpack(data, found)
        try:
            manifest = ModelManifest.model_validate_json(parts[_MANIFEST])
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ModelRefused(
                f"model {found[:12]}: {_MANIFEST} is refused at {where or 'its root'}: {first['msg']}"
            ) from None
        recorded_parts = (
            (_RANKER, manifest.ranker_sha256),
            (_FACTORS, manifest.factors_sha256),
            (_CHOICES, manifest.choices_sha256),
        )
        for name, recorded in recorded_parts:
            if (None if name not in parts else _sha256(parts[name])) != recorded:
                raise ModelRefused(
                    f"model {found[:12]}: {name} does not match the digest in its manifest; it was swapped"
                )
        try:
            with np.load(io.BytesIO(parts[_FACTORS]), allow_pickle=False) as arrays:
                user_factors, content_factors = arrays["user_factors"], arrays["content_factors"]
                content_ids = [str(content_id) for content_id in arrays["content_ids"]]
        except (ValueError, KeyError, OSError) as error:
            raise ModelRefused(f"model {found[:12]}: {_FACTORS} cannot be read: {error}") from None
        bundle = cls(
            manifest,
            ranker=parts[_RANKER],
            user_factors=user_factors,
            content_factors=content_factors,
            content_ids=content_ids,
            choices=ChoiceModel.load(parts[_CHOICES]) if _CHOICES in parts else None,
        )
        bundle.__dict__["data"], bundle.__dict__["sha256"] = data, found
        return bundle

    @property
    def choices(self) -> ChoiceModel | None:
        """The choice model; None for a model that uses none."""
        return self._choices

    def select(self, columns: Mapping[str, np.ndarray], content_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the columns that the model takes, leaving out all others.

        The choice model's columns are computed from the user's and the contents' (embeddings too), unless they are there.

        Raises:
            ModelRefused: names every column that is missing.
        """
        if self._choices is not None and not columns.keys() >= set(CHOICE_FEATURES):
            missing = sorted(self._choices.inputs - columns.keys())
            if missing:
                raise ModelRefused(
                    f"model {self.manifest.snapshot_id} needs {_names(missing)} for its choice model, which the input lacks"
                )
            vectors = self._choices.content_vectors(columns)
            columns = {
                **columns,
                CONTEXT_AFFINITY: self._choices.affinity(self._choices.context_weights(columns), vectors),
                CONTENT_APPEAL: self.content_appeal(self.content_rows(content_ids), vectors),
            }
        self._refuse_missing(columns)
        return {name: columns[name] for name in self.input_columns}

    def score(
        self,
        columns: Mapping[str, np.ndarray],
        *,
        content_ids: Sequence[str],
        sequence_id: int | np.ndarray | None,
    ) -> np.ndarray:
        """Return one score per content, float64 of length n; a higher one is to be shown first.

        `columns` are exactly `input_columns`, each of length n, or of length 1 for a value that all rows share:
        numbers and flags as floats (NaN is null), texts as objects (None is null). `sequence_id` is the user's, or one
        per row; None or -1 leaves the collaborative score null, as for a user who is new to this mapping.

        Raises:
            ModelRefused: a column is missing, extra or of a wrong length, or a sequence id lies beyond the factors.
        """
        return self.score_matrix(self.matrix(columns, content_ids=content_ids, sequence_id=sequence_id))

    def score_matrix(self, matrix: np.ndarray) -> np.ndarray:
        """Return one score per row of what `matrix` returns, float64. A row's score does not depend on the others."""
        scores: np.ndarray = self._booster.inplace_predict(matrix, validate_features=False)
        return scores.astype(np.float64)

    def contributions(
        self,
        columns: Mapping[str, np.ndarray],
        *,
        content_ids: Sequence[str],
        sequence_id: int | np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Return what each feature added to each raw score (SHAP values, log-odds), and the common `bias`.

        Arrays have length n; their sum over names is the raw score. Takes and refuses what `score` does.
        """
        import xgboost

        matrix = self.matrix(columns, content_ids=content_ids, sequence_id=sequence_id)
        rows = xgboost.DMatrix(matrix, feature_types=self._feature_types(), enable_categorical=True)
        values: np.ndarray = self._booster.predict(rows, pred_contribs=True)
        names = (*self.manifest.feature_order, "bias")
        return {name: values[:, place].astype(np.float64) for place, name in enumerate(names)}

    def gains(self) -> dict[str, float]:
        """Return the total gain of each feature over all splits of the trees; 0 for one that no tree asks for."""
        found = self._booster.get_score(importance_type="total_gain")
        return {name: float(found.get(f"f{place}", 0.0)) for place, name in enumerate(self.manifest.feature_order)}

    def matrix(
        self,
        columns: Mapping[str, np.ndarray],
        *,
        content_ids: Sequence[str],
        sequence_id: int | np.ndarray | None,
    ) -> np.ndarray:
        """Return what the trees see: float32 (n, features), texts as codes, NaN for null. Refuses what `score` does."""
        self._refuse_missing(columns)
        extra = sorted(set(columns) - set(self.input_columns))
        if extra:
            raise ModelRefused(
                f"model {self.manifest.snapshot_id} was not trained on {_names(extra)}; "
                "pass only its input columns (`ModelBundle.select` picks them)"
            )
        count = len(content_ids)
        matrix = np.empty((count, len(self.manifest.feature_order)), dtype=np.float32)
        for place, name in enumerate(self.manifest.feature_order):
            if name == COLLABORATIVE_SCORE:
                matrix[:, place] = self.collaborative_scores(content_ids, sequence_id)
                continue
            values = np.asarray(columns[name])
            if values.shape not in ((count,), (1,)):
                raise ModelRefused(
                    f"column {name} has shape {values.shape} for {count} contents; expected ({count},) or (1,)"
                )
            matrix[:, place] = self._as_floats(name, values)
        return matrix

    def content_rows(self, content_ids: Sequence[str]) -> np.ndarray:
        """Return which row of the content factors belongs to each content, int64; -1 for an unknown one."""
        return np.array([self._content_rows.get(content_id, -1) for content_id in content_ids], dtype=np.int64)

    def content_appeal(self, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return the appeal of contents given by `content_rows`, float64: learned, or by its vector where it is unknown.

        Raises:
            ModelRefused: the model has no choice model.
        """
        if self._choices is None:
            raise ModelRefused(
                f"model {self.manifest.snapshot_id} has no choice model, which computes {CONTENT_APPEAL}"
            )
        appeal = self._choices.vector_appeal(vectors)
        if len(self._content_ids):
            appeal = np.where(rows >= 0, self._content_factors[rows, -1], appeal)
        return appeal

    def collaborative_scores(self, content_ids: Sequence[str], sequence_id: int | np.ndarray | None) -> np.ndarray:
        """Return the collaborative filter's score of each content, float64; NaN for an unknown user or content.

        Raises:
            ModelRefused: a sequence id lies beyond the factors: it comes from another mapping.
        """
        return self.collaborative_scores_of(self.content_rows(content_ids), sequence_id)

    def collaborative_scores_of(self, rows: np.ndarray, sequence_id: int | np.ndarray | None) -> np.ndarray:
        """Do what `collaborative_scores` does for contents given by `content_rows`."""
        users = np.asarray(NO_SEQUENCE_ID if sequence_id is None else sequence_id, dtype=np.int64)
        beyond = int(users.max(initial=NO_SEQUENCE_ID))
        if beyond >= self.user_count:
            raise ModelRefused(
                f"sequence id {beyond} lies beyond the {self.user_count} users of mapping "
                f"{self.manifest.mapping_version}; it comes from another mapping"
            )
        if users.ndim == 0:
            if users < 0 or not len(self._content_ids):
                return np.full(len(rows), np.nan)
            # summed as below, so that a user's scores are bit-equal alone and in a batch
            scores = np.einsum("j,ij->i", self._user_factors[int(users)], self._content_factors[rows]).astype(
                np.float64
            )
            scores[rows < 0] = np.nan
            return np.asarray(scores)
        known = (users >= 0) & (rows >= 0)
        scores = np.full(len(rows), np.nan)
        scores[known] = np.einsum("ij,ij->i", self._user_factors[users[known]], self._content_factors[rows[known]])
        return scores

    def _as_floats(self, name: str, values: np.ndarray) -> np.ndarray:
        codes = self._codes.get(name)
        if codes is not None:
            return np.array([codes.get(value, np.nan) for value in values.tolist()], dtype=np.float32)
        if values.dtype == object:
            values = np.array([np.nan if value is None else value for value in values], dtype=object)
        try:
            return values.astype(np.float32)
        except (TypeError, ValueError):
            raise ModelRefused(
                f"column {name} holds something that is not a number; expected numbers or null"
            ) from None

    def _refuse_missing(self, columns: Mapping[str, Any]) -> None:
        missing = [name for name in self.input_columns if name not in columns]
        if missing:
            raise ModelRefused(
                f"model {self.manifest.snapshot_id} needs {_names(missing)}, which the input lacks; "
                "the features served are not those it was trained on"
            )

    def _feature_types(self) -> list[str]:
        return ["c" if name in self.manifest.categories else "float" for name in self.manifest.feature_order]

    def _load_booster(self) -> "xgboost.Booster":
        import xgboost

        try:
            booster = xgboost.Booster({"nthread": 1})
            booster.load_model(bytearray(self._ranker))
        except xgboost.core.XGBoostError as error:
            raise ModelRefused(f"{_RANKER} is not an XGBoost model: {str(error).strip().splitlines()[0]}") from None
        if booster.num_features() != len(self.manifest.feature_order):
            raise ModelRefused(
                f"{_RANKER} takes {booster.num_features()} columns; the manifest names {len(self.manifest.feature_order)}"
            )
        return booster


def model_key(sha256: str) -> str:
    """Return the key in the lake of the bundle with this digest."""
    return f"models/{sha256}.tar.gz"


def _unpack(data: bytes, digest: str) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            parts = {}
            for member in archive:
                file = archive.extractfile(member)
                parts[member.name] = b"" if file is None else file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ModelRefused(f"model {digest[:12]} is not a tar.gz archive: {error}") from None
    expected = {_MANIFEST, _RANKER, _FACTORS}
    if missing := sorted(expected - set(parts)):
        raise ModelRefused(f"model {digest[:12]} lacks {', '.join(missing)}; it is no bundle, or half of one")
    if extra := sorted(set(parts) - expected - {_CHOICES}):
        raise ModelRefused(f"model {digest[:12]} holds {', '.join(extra)} besides its parts; it was tampered with")
    return parts


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"model artifact {path} cannot be read: {error.strerror}") from None


def _names(names: Sequence[str]) -> str:
    return ("columns " if len(names) > 1 else "column ") + ", ".join(names)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
