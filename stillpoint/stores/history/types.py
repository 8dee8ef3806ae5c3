"""Which types fit together: a spine's keys with a source's, a source's columns with what a view declares."""

import polars as pl
import pyarrow as pa
from feast.types import Bool, Float32, Float64, Int32, Int64, String

from stillpoint.errors import InvalidInput, InvalidSpine
from stillpoint.stores.history.views import JoinKey, RequestedFeature

_NUMBERS = (Int32, Int64, Float32, Float64, Bool)


def key_type(key: JoinKey, values: pl.Series, stored: pl.DataType, view: str) -> pl.DataType | type[pl.DataType]:
    """Return the type in which the spine's values of a join key are compared with the source's.

    Whole numbers of any width fit each other (one beyond the source's range is in no row), and so do floats that hold whole numbers (pandas turns a column of
    integers with a missing one into floats).

    Raises:
        InvalidSpine: text meets numbers, or a float is not whole.
    """
    found = values.dtype
    if stored == pl.Null or found == stored:
        return found
    if stored.is_integer() and (found == pl.Null or found.is_integer() or (found.is_float() and _whole(values))):
        return stored
    if isinstance(stored, pl.Categorical | pl.Enum) or stored == pl.String:
        if found in (pl.String, pl.Null) or isinstance(found, pl.Categorical | pl.Enum):
            return pl.String
    elif (isinstance(stored, pl.Datetime) and isinstance(found, pl.Datetime)) or found == pl.Null:
        return stored
    raise InvalidSpine(
        f"join key {key.spine!r} of view {view!r}: the spine holds {found}, the source's {key.source!r} holds {stored}; "
        "cast the spine's column"
    )


def _whole(values: pl.Series) -> bool:
    return bool((values == values.floor()).all())


def check_feature_type(view: str, wanted: RequestedFeature, stored: pa.DataType, path: str) -> None:
    """Refuse numbers where text is declared, text where numbers are, and anything else where a flag is.

    Raises:
        InvalidInput: names the view, the feature, and both types.
    """
    text = pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_binary(stored)
    number = pa.types.is_integer(stored) or pa.types.is_floating(stored)
    wrong = (wanted.dtype in _NUMBERS and text) or (wanted.dtype == String and number)
    if wrong:
        raise InvalidInput(
            f"view {view!r}, feature {wanted.feature!r} is declared {wanted.dtype}, and its column "
            f"{wanted.source!r} in {path} holds {stored}; correct the source or the declaration"
        )


def stored_type(values: pl.Series, stored: pa.DataType) -> pa.Array:
    """Return values as Arrow, in the type that the source's files have (dictionaries as what they encode)."""
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    array = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(stored) or array.type == stored:
        return array
    if pa.types.is_map(stored):
        return _as_map(array, stored)
    return array.cast(stored)


def _as_map(array: pa.Array, stored: pa.MapType) -> pa.Array:
    """Rebuild a map from the list of (key, value) structs as which Polars reads it."""
    entries = array.flatten()
    return pa.MapArray.from_arrays(
        array.offsets.cast(pa.int32()), entries.field(0), entries.field(1), type=stored, mask=array.is_null()
    )
