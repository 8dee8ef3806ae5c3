"""Columns of vectors in tables of many rows, in which the same vector stands often: each is kept once. (pure)

A column is a dictionary of float32 bytes: a snapshot shows one search or one title in thousands of rows, and a kilobyte for
each would be gigabytes.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillpoint.dtypes import EMBEDDING_LENGTH

Vectors = npt.NDArray[np.float32]


def pack_vectors(vectors: Vectors) -> pa.DictionaryArray:
    """Return vectors (n, length) as a column; a row of NaN is null."""
    length = vectors.shape[1]
    data = np.ascontiguousarray(vectors, dtype="<f4")
    plain = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * length), len(data), [None, pa.py_buffer(data)])
    encoded = plain.dictionary_encode()
    codes = pa.array(encoded.indices.to_numpy(), mask=np.isnan(data[:, 0]))
    return pa.DictionaryArray.from_arrays(codes, encoded.dictionary.cast(pa.binary()))


def is_packed(kind: pa.DataType) -> bool:
    """Return whether a column's type is the one of `pack_vectors`."""
    return bool(pa.types.is_dictionary(kind) and pa.types.is_binary(kind.value_type))


def distinct_vectors(column: pa.ChunkedArray, length: int = EMBEDDING_LENGTH) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Return a column's distinct vectors, the last one of NaN, and for each row its place among them."""
    dictionary, codes = _one(column)
    kept = dictionary.to_pylist()
    vectors = np.frombuffer(b"".join(kept), "<f4").reshape(len(kept), length)
    nothing = np.full((1, length), np.nan, np.float32)
    return np.concatenate([vectors, nothing]).astype(np.float32), np.where(codes < 0, len(kept), codes)


def without_unused(table: pa.Table) -> pa.Table:
    """Return a table whose packed columns hold only the vectors that occur in its rows, in the order in which they do."""
    for place, field in enumerate(table.schema):
        if is_packed(field.type):
            dictionary, codes = _one(table[field.name])
            used, first, own = np.unique(codes, return_index=True, return_inverse=True)
            order = np.argsort(first[used >= 0], kind="stable")
            places = np.full(len(used), -1)
            places[np.flatnonzero(used >= 0)[order]] = np.arange(len(order))
            found = places[own]
            column = pa.DictionaryArray.from_arrays(
                pa.array(found.astype(np.int32), mask=found < 0), dictionary.take(pa.array(used[used >= 0][order]))
            )
            table = table.set_column(place, field, column)
    return table


def _one(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Return a column's dictionary and for each row its place in it, -1 for null."""
    parts = column.unify_dictionaries().chunks
    if not parts:
        return pa.array([], column.type.value_type), np.empty(0, np.int64)
    codes = [part.indices.fill_null(-1).to_numpy(zero_copy_only=False) for part in parts]
    return parts[0].dictionary, np.concatenate(codes).astype(np.int64)


def unpacked(table: pa.Table) -> pa.Table:
    """Return a table with each packed column as lists of numbers, null where it is null."""
    for place, field in enumerate(table.schema):
        if is_packed(field.type):
            vectors, codes = distinct_vectors(table[field.name])
            missing = np.isnan(vectors[codes, 0])
            lists = [None if absent else vector for absent, vector in zip(missing, vectors[codes], strict=True)]
            table = table.set_column(place, field.name, pa.array(lists, pa.list_(pa.float32())))
    return table
