"""Parses the model server's request bodies into the arrays that `ModelBundle.score` takes.

A body is JSON, `{"columns": {name: [values]}, "content_ids": […], "sequence_id": n|[…]|null}`, or CSV with a header of the
same names and one row per content. Input that does not fit the model's signature is refused by name.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from inference.http.problems import Problem
from stillpoint.model import NO_SEQUENCE_ID, ModelBundle

JSON = "application/json"
CSV = "text/csv"


@dataclass(frozen=True, slots=True)
class ModelInput:
    """The arguments of `ModelBundle.score`."""

    columns: dict[str, np.ndarray]
    content_ids: list[str]
    sequence_id: int | np.ndarray | None


def parse(bundle: ModelBundle, body: bytes, media_type: str) -> ModelInput:
    """Return the arrays of a body. An empty CSV cell is null.

    Raises:
        Problem: 415 for another content type; 400 for a malformed body or a column of a wrong type, which it names.
    """
    match media_type.partition(";")[0].strip().lower():
        case "application/json":
            columns, content_ids, sequence_id = _from_json(body)
        case "text/csv":
            columns, content_ids, sequence_id = _from_csv(bundle, body)
        case other:
            raise Problem(415, "Unsupported media type", f"content type {other!r}; expected {JSON} or {CSV}")
    texts = bundle.manifest.categories
    arrays = {name: _column(name, values, text=name in texts) for name, values in columns.items()}
    return ModelInput(arrays, content_ids, _sequence_id(sequence_id, len(content_ids)))


def _from_json(body: bytes) -> tuple[dict[str, Any], list[str], Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _refused(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("columns"), dict):
        raise _refused("expected an object with `columns`, `content_ids` and `sequence_id`")
    if unknown := sorted(set(document) - {"columns", "content_ids", "sequence_id"}):
        raise _refused(f"unknown: {', '.join(unknown)}; expected `columns`, `content_ids` and `sequence_id`")
    content_ids = document.get("content_ids")
    if not isinstance(content_ids, list) or not all(isinstance(one, str) for one in content_ids) or not content_ids:
        raise _refused("`content_ids`: expected a list of at least one text")
    return document["columns"], content_ids, document.get("sequence_id")


def _from_csv(bundle: ModelBundle, body: bytes) -> tuple[dict[str, Any], list[str], Any]:
    try:
        header, *rows = csv.reader(io.StringIO(body.decode()), strict=True)
    except (ValueError, csv.Error) as error:
        raise _refused(f"the body is not CSV with a header: {error}") from None
    rows = [row for row in rows if row]
    if len(set(header)) != len(header) or "content_id" not in header or not rows:
        raise _refused("expected a header of different names with `content_id`, and at least one row")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise _refused(f"row {number} holds {len(row)} cells; expected {len(header)}, as the header")
    cells = {name: [row[place] or None for row in rows] for place, name in enumerate(header)}
    content_ids = [one or "" for one in cells.pop("content_id")]
    sequence_id = [_whole(one) for one in cells.pop("sequence_id")] if "sequence_id" in cells else None
    texts = bundle.manifest.categories
    return {n: c if n in texts else [_number(n, one) for one in c] for n, c in cells.items()}, content_ids, sequence_id


def _column(name: str, values: Any, *, text: bool) -> np.ndarray:
    if not isinstance(values, list):
        raise _refused(f"column {name}: expected a list")
    kind: Any = str if text else (int, float)
    if not all(one is None or isinstance(one, kind) for one in values):
        raise _refused(f"column {name}: expected {'texts' if text else 'numbers'} or null")
    return np.array(values, dtype=object if text else np.float64)


def _sequence_id(given: Any, count: int) -> int | np.ndarray | None:
    values: Sequence[Any] = given if isinstance(given, list) else [given]
    if not all(one is None or (type(one) is int and abs(one) < 2**62) for one in values):
        raise _refused("`sequence_id`: expected a whole number, a list of them, or null")
    if not isinstance(given, list):
        return None if given is None else int(given)
    if len(given) != count:
        raise _refused(
            f"`sequence_id` holds {len(given)} values for {count} contents; expected one each, or one for all"
        )
    return np.array([NO_SEQUENCE_ID if one is None else one for one in given], dtype=np.int64)


def _number(name: str, cell: str | None) -> float | None:
    try:
        return None if cell is None else float(cell)
    except ValueError:
        raise _refused(f"column {name}: {cell[:40]!r} is not a number") from None  # type: ignore[index]


def _whole(cell: str | None) -> int | None:
    try:
        return None if cell is None else int(cell)
    except ValueError:
        raise _refused(f"`sequence_id`: {cell[:40]!r} is not a whole number") from None  # type: ignore[index]


def _refused(detail: str) -> Problem:
    return Problem(400, "Model input refused", detail)
