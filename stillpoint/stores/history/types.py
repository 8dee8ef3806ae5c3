"""Decides which types fit together: a spine's join keys with a source's, a source's columns with a view's declaration."""

from collections.abc import Iterable, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.types import (
    Array,
    Bool,
    Bytes,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    PrimitiveFeastType,
    Set,
    String,
    UnixTimestamp,
)

from stillpoint.errors import InvalidInput, InvalidSpine
from stillpoint.stores.history.names import Names, batch_source_of
from stillpoint.stores.history.views import JoinKey, RequestedFeature, ViewRequest
from stillpoint.stores.values.encode import NO_NULLS
from stillpoint.stores.values.exact import fits, is_binary, is_list, plain_type

_ARROW: dict[FeastType, pa.DataType] = {
    Int32: pa.int32(),
    Int64: pa.int64(),
    Float32: pa.float32(),
    Float64: pa.float64(),
    Bool: pa.bool_(),
    String: pa.string(),
    Bytes: pa.binary(),
    UnixTimestamp: pa.timestamp("us", tz="UTC"),
}


def arrow_type(dtype: FeastType | None) -> pa.DataType | None:
    """Return the Arrow type of a declared Feast type; None for types that Feast does not map to one (maps, JSON, sets…)."""
    if isinstance(dtype, Array):
        item = arrow_type(dtype.base_type)
        return None if item is None else pa.list_(item)
    return _ARROW.get(dtype) if isinstance(dtype, PrimitiveFeastType) else None


def request_types(view: ViewRequest) -> dict[str, pa.DataType]:
    """Return the types that a request's view declares, by the source's column names."""
    return _arrow_types(
        [*((key.source, key.dtype) for key in view.keys), *((wanted.source, wanted.dtype) for wanted in view.features)]
    )


def view_types(view: FeatureView) -> dict[str, pa.DataType]:
    """Return the types that a view declares, by the source's column names."""
    stored = Names.of(batch_source_of(view)).stored
    return _arrow_types((stored(field.name), field.dtype) for field in (*view.entity_columns, *view.features))


def _arrow_types(declared: Iterable[tuple[str, FeastType | None]]) -> dict[str, pa.DataType]:
    found: Mapping[str, pa.DataType | None] = {column: arrow_type(dtype) for column, dtype in declared}
    return {column: kind for column, kind in found.items() if kind is not None}


def key_type(key: JoinKey, values: pl.Series, stored: pl.DataType, view: str) -> pl.DataType | type[pl.DataType]:
    """Return the type in which the spine's values of a join key are compared with the source's.

    Numbers of any kind and width fit each other; one that the source's type cannot hold is in no row. Floats for whole
    numbers must be whole (pandas turns a column of integers with a missing one into floats). A spine without rows fits.

    Raises:
        InvalidSpine: text meets numbers, or a float is not whole.
    """
    found = values.dtype
    if stored == pl.Null or found == stored:
        return found
    if found == pl.Null or not len(values):
        return stored
    if stored.is_numeric() and found.is_numeric():
        if not stored.is_integer() or not found.is_float() or bool((values == values.floor()).all()):
            return stored
    elif isinstance(stored, pl.Categorical | pl.Enum) or stored == pl.String:
        if found in (pl.String, pl.Date) or isinstance(found, pl.Categorical | pl.Enum):
            return pl.String  # a date as its usual text, as in a read
    elif isinstance(stored, pl.Datetime) and isinstance(found, pl.Datetime):
        return stored
    raise InvalidSpine(
        f"join key {key.spine!r} of view {view!r}: the spine holds {found}, the source's {key.source!r} holds {stored}; "
        "cast the spine's column"
    )


def as_key(key: JoinKey, values: pl.Series, stored: pl.DataType, view: str) -> pl.Series:
    """Return the spine's values of a join key in the source's type, null where it holds no such value.

    Raises:
        InvalidSpine: text meets numbers, or a float is not whole.
    """
    kind = key_type(key, values, stored, view)
    made = values.cast(kind, strict=False)
    if made.dtype.is_numeric() and values.dtype.is_numeric() and made.dtype != values.dtype:
        kept = made.cast(values.dtype, strict=False) == values
        made = pl.select(pl.when(kept).then(made)).to_series()
    return made.alias(key.source)


def check_feature_type(view: str, wanted: RequestedFeature, stored: Iterable[pa.DataType], path: str) -> None:
    """Refuse a column that holds another kind of values than declared: numbers for text, text for numbers.

    Raises:
        InvalidInput: names the view, the feature, and both types.
    """
    declared = arrow_type(wanted.dtype)
    for kind in sorted(stored, key=str):
        if declared is not None and not fits(kind, declared):
            raise InvalidInput(
                f"view {view!r}, feature {wanted.feature!r} is declared {wanted.dtype}, and its column "
                f"{wanted.source!r} in {path} holds {kind}; correct the source or the declaration"
            )


def spelled_for_feast(stored: pa.DataType) -> str:
    """Return a stored type's name as Feast's schema inference expects it; stock Feast fails on dates, dictionaries and most
    lists."""
    kind = plain_type(stored)
    if is_list(kind) and not pa.types.is_fixed_size_list(kind):
        return f"list<item: {spelled_for_feast(kind.value_type)}>"
    if pa.types.is_date(kind):
        return str(pa.timestamp("s"))
    if pa.types.is_float16(kind):
        return str(pa.float32())
    if pa.types.is_string_view(kind):
        return str(pa.string())
    return str(pa.binary()) if is_binary(kind) else str(kind)


def refuse_null_items(array: pa.Array, dtype: FeastType, where: str) -> None:
    """Refuse a null inside a list or set, unless Feast's format can hold it (NaN in float lists, a missing time).

    Raises:
        InvalidInput: names the row and the list after `where`.
    """
    if not isinstance(dtype, Array | Set) or not is_list(array.type):
        return
    items = pc.list_flatten(array)
    if isinstance(dtype.base_type, Array | Set):
        refuse_null_items(items, dtype.base_type, where)
    elif items.null_count and dtype.base_type not in (Float32, Float64, UnixTimestamp):
        row = pc.list_parent_indices(array).filter(items.is_null())[0].as_py()
        raise InvalidInput(f"{where}, row {row}: {array[row]!s:.60} holds a null; {NO_NULLS}")
