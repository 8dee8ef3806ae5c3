"""Returns a snapshot's rows as the columns that a model bundle takes, as serving would hand them over. (pure)"""

from typing import Any

import numpy.typing as npt
import pyarrow as pa

from stillpoint.dtypes import DType
from stillpoint.features.model_columns import feature_column
from stillpoint.vector_columns import distinct_vectors, is_packed

_AGE = "_age"


def snapshot_columns(rows: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """Return every feature of the rows, stored and of request time, and the views' ages in seconds; `ModelBundle.select` takes them.

    Vectors come whole, a kilobyte a row: ask for as many rows as may be in memory.
    """
    columns: dict[str, npt.NDArray[Any]] = {}
    for field in rows.schema:
        if is_packed(field.type):
            distinct, codes = distinct_vectors(rows[field.name])
            columns[field.name] = distinct[codes]
        elif pa.types.is_string(field.type):
            columns[field.name] = feature_column(field.name, DType.STRING, rows[field.name].combine_chunks())
        elif not pa.types.is_temporal(field.type):
            columns[field.name] = feature_column(field.name, DType.FLOAT64, rows[field.name].combine_chunks())
            if field.name.endswith(_AGE):
                columns[f"{field.name}_seconds"] = columns[field.name]
    return columns
