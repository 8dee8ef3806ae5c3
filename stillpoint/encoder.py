"""Encodes texts as unit vectors.

`Encoder` is the interface; `WordLlamaEncoder` has its weights in its wheel, so nothing is downloaded. Equal texts give
bit-equal vectors, alone or in any batch. `sha256` identifies weights, tokenizer and code.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stillpoint.dtypes import EMBEDDING_LENGTH
from stillpoint.errors import CorruptData

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def sha256(self) -> str:
        """Digest of everything that the vectors depend on: weights, tokenizer, code."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one normalised float32 row of length 256 per text; a row of NaN for a text with no known word."""
        ...


class WordLlamaEncoder:
    """Word vectors averaged per text (wordllama, 256 dimensions, about 60 µs a text). Loads 16 MB, once."""

    def __init__(self) -> None:
        import wordllama

        folder = Path(wordllama.__file__).parent
        self.sha256 = _digest(folder, version("wordllama"))
        self._model: Any = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, EMBEDDING_LENGTH), dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            vectors: Vectors = self._model.embed(list(texts), norm=True)
        return vectors


class RememberingEncoder:
    """Caches the vectors of an encoder, least recently used dropped first.

    A micro-batch calls `prefetch` once with the queries of all its users, so that each query then costs only a look-up.
    """

    def __init__(self, encoder: Encoder, capacity: int = 20_000) -> None:
        self.sha256 = encoder.sha256
        self._encoder = encoder
        self._capacity = capacity
        self._known: OrderedDict[str, Vectors] = OrderedDict()

    def prefetch(self, texts: Iterable[str]) -> None:
        """Encode all texts that are not cached, in one call."""
        self._vectors(list(dict.fromkeys(texts)))

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, EMBEDDING_LENGTH), dtype=np.float32)
        found = self._vectors(list(dict.fromkeys(texts)))
        return np.stack([found[text] for text in texts])

    def _vectors(self, texts: Sequence[str]) -> dict[str, Vectors]:
        found = {}
        unknown = []
        for text in texts:
            vector = self._known.get(text)
            if vector is None:
                unknown.append(text)
            else:
                self._known.move_to_end(text)
                found[text] = vector
        if unknown:
            for text, vector in zip(unknown, self._encoder.encode(unknown), strict=True):
                found[text] = self._known[text] = vector
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return found


def _digest(folder: Path, release: str) -> str:
    """Return the digest over the weights, the tokenizer and the version of the code that combines them."""
    files = sorted((*folder.glob("weights/*.safetensors"), *folder.glob("tokenizers/*.json")))
    if len(files) < 2:
        raise CorruptData(
            f"wordllama {release} in {folder} holds {len(files)} of its 2 files (weights, tokenizer); "
            "install the wheel again: `pip install --force-reinstall wordllama`"
        )
    digest = hashlib.sha256(f"wordllama {release}".encode())
    for file in files:
        digest.update(f"\x00{file.name}\x00{file.stat().st_size}\x00".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
