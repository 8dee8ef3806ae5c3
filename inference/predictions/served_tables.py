"""Predictions as rows of the served log."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from inference.predictions.predict import Prediction
from stillpoint.clock import to_micros
from stillpoint.errors import StillpointError
from stillpoint.served_rows import SERVED_COLUMNS
from stillpoint.tombstones import Tombstones

TOGETHER = 8
"""Rows turned into a table in one go, which keeps the interpreter from answering meanwhile."""


def served_row(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as a row of `served/`.

    Raises:
        CorruptData: what was read cannot be decoded.
    """
    return {
        "request_id": prediction.task.request_id,
        "recommendation_id": prediction.recommendation_id,
        "served_at": prediction.at,
        "release": prediction.release,
        "generation": prediction.generation,
        "arm": prediction.arm,
        "user_id": prediction.task.user_id,
        "kind": str(prediction.task.kind),
        "source": str(prediction.source),
        "trigger": None if prediction.task.trigger is None else str(prediction.task.trigger),
        "items": [item.content_id for item in prediction.items],
        "candidates": prediction.ranking.candidates,
        "scores": prediction.ranking.scores,
        "views": list(prediction.user.views),
    }


def served_table(
    predictions: Sequence[Prediction],
    *,
    refused: Callable[[StillpointError], None],
    between: Callable[[], None] = lambda: None,
) -> pa.Table:
    """Return predictions as a table. `refused` hears of each one that cannot be logged, `between` is called after every few."""
    parts = [SERVED_COLUMNS.empty_table()]
    known: dict[int, pa.Array] = {}  # the predictions, which hold what its keys are identities of, outlive it
    for start in range(0, len(predictions), TOGETHER):
        rows = []
        for prediction in predictions[start : start + TOGETHER]:
            try:
                rows.append(served_row(prediction))
            except StillpointError as error:
                refused(error)
        parts.append(_columns(rows, known))
        between()
    return pa.concat_tables(parts).combine_chunks()


def without_erased(table: pa.Table, tombstones: Tombstones) -> pa.Table:
    """Return the rows whose users had not been erased up to their moment."""
    pairs = zip(table["user_id"].to_pylist(), table["served_at"].to_pylist(), strict=True)
    kept = [not tombstones.covers(user, to_micros(at)) for user, at in pairs]
    return table if all(kept) else table.filter(pa.array(kept, pa.bool_()))


def _columns(rows: Sequence[Mapping[str, Any]], known: dict[int, pa.Array]) -> pa.Table:
    """Return rows as a table. The long lists go by way of arrays, which is many times faster than value by value; that of
    the candidates is mostly one and the same for all, and `known` by its identity."""
    arrays = []
    for column in SERVED_COLUMNS:
        values = [row[column.name] for row in rows]
        if column.name == "candidates" and rows:
            for one in values:
                if id(one) not in known:
                    known[id(one)] = pa.array(one, column.type.value_type)
            arrays.append(_lists([known[id(one)] for one in values], column.type))
        elif column.name == "scores" and rows:
            arrays.append(_lists([pa.array(one, column.type.value_type) for one in values], column.type))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=SERVED_COLUMNS)


def _lists(values: Sequence[pa.Array], type: pa.ListType) -> pa.Array:
    offsets = np.cumsum([0, *(len(one) for one in values)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.concat_arrays(values), type=type)
