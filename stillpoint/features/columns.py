"""The columns in which a view's rows are stored, and computed rows as a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stillpoint.app.records import View
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.events.types import TIMESTAMP

Row = tuple[Any, ...]
"""One row in the order of `feature_columns`: key, event and created microseconds, features. An embedding is a float32
array; null is None."""

_ARROW = {
    DType.INT64: pa.int64(),
    DType.FLOAT64: pa.float64(),
    DType.BOOL: pa.bool_(),
    DType.STRING: pa.string(),
    DType.EMBEDDING: pa.list_(pa.float32()),
    DType.STRINGS: pa.list_(pa.string()),
    DType.INT64S: pa.list_(pa.int64()),
    DType.FLOAT64S: pa.list_(pa.float64()),
}


def feature_columns(view: View) -> pa.Schema:
    """Return the columns of `features/<view>/`: join keys, event and created timestamp, then the features in order."""
    return pa.schema(
        [
            *(pa.field(key, pa.string(), nullable=False) for key in view.entity.keys),
            pa.field("event_timestamp", TIMESTAMP, nullable=False),
            pa.field("created_timestamp", TIMESTAMP, nullable=False),
            *(pa.field(feature.name, _ARROW[feature.dtype]) for feature in view),
        ]
    )


def rows_table(view: View, rows: Sequence[Row]) -> pa.Table:
    """Return rows as a table with the view's `feature_columns`, in their order."""
    schema = feature_columns(view)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [
        embeddings_array(values) if field.type == _ARROW[DType.EMBEDDING] else pa.array(values, field.type)
        for field, values in zip(schema, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def embeddings_array(vectors: Sequence[Any]) -> pa.Array:
    """Return float32 vectors as an arrow list array; None gives null."""
    present = np.fromiter((vector is not None for vector in vectors), dtype=bool, count=len(vectors))
    flat = [vector for vector in vectors if vector is not None]
    values = np.concatenate(flat).astype(np.float32, copy=False) if flat else np.empty(0, dtype=np.float32)
    offsets = np.zeros(len(vectors) + 1, dtype=np.int32)
    np.cumsum(present * EMBEDDING_LENGTH, out=offsets[1:])
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(values, pa.float32()), mask=None if present.all() else pa.array(~present)
    )
