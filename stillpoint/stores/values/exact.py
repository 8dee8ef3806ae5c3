"""Converts Arrow columns to another type exactly; a value that the type cannot hold is refused, never changed.

Numbers, flags, text, bytes, times, lists, structs and maps of any width and unit. Every path that changes a type uses
this: pushes, joins, fills, reads.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from stillpoint.errors import InvalidInput
from stillpoint.stores.values.exact_numbers import as_numbers, is_number, nulls_of
from stillpoint.stores.values.exact_times import as_times, is_moment

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Conversion:
    """Converted values, null where one did not fit, and a mask of these."""

    values: pa.Array
    wrong: Bools


def fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values of one type can be converted to another at all (numbers to numbers, but not text to numbers).

    >>> fits(pa.int64(), pa.float32()), fits(pa.string(), pa.int64())
    (True, False)
    """
    found, wanted = plain_type(found), plain_type(wanted)
    if found == wanted or pt.is_null(found):
        return True
    if is_list(found) and is_list(wanted):
        return fits(found.value_type, wanted.value_type)
    if pt.is_struct(found) and pt.is_struct(wanted):
        return all(fits(one.type, wanted.field(one.name).type) for one in found if one.name in wanted.names)
    if pt.is_map(found) and pt.is_map(wanted):
        return fits(found.key_type, wanted.key_type) and fits(found.item_type, wanted.item_type)
    if pt.is_date32(found) and is_text(wanted):
        return True
    if is_moment(wanted):
        return is_moment(found) or (pt.is_timestamp(wanted) and (pt.is_integer(found) or pt.is_floating(found)))
    return any(kind(found) and kind(wanted) for kind in (is_number, is_text, is_binary, pt.is_time, pt.is_duration))


def convert(array: pa.Array, wanted: pa.DataType, *, nearest: bool = False) -> Conversion:
    """Convert values to another type. NaN becomes null in types without NaN, since pandas represents null so.

    A number between two floats of the wanted type does not fit, unless `nearest` is set: then it is rounded, as for
    features declared Float32. A time without a zone is UTC; a whole number as a time counts seconds since 1970.

    >>> converted = convert(pa.array([1.0, 1.5, None]), pa.int64())
    >>> converted.values.to_pylist(), converted.wrong.tolist()
    ([1, None, None], [False, True, False])

    Raises:
        TypeError: the types do not fit each other (`fits`).
    """
    found = array.type
    if found == wanted:
        return Conversion(array, _none(array))
    if pt.is_dictionary(wanted):
        plain = convert(array, wanted.value_type, nearest=nearest)
        return Conversion(plain.values.dictionary_encode().cast(wanted), plain.wrong)
    if pt.is_dictionary(found):
        return convert(array.dictionary_decode(), wanted, nearest=nearest)
    if isinstance(array, pa.ExtensionArray):
        return convert(array.storage, wanted, nearest=nearest)
    if pt.is_null(found):
        return Conversion(pa.nulls(len(array), wanted), _none(array))
    if not fits(found, wanted):
        raise TypeError(f"{found} is another kind of value than {wanted}, and is not converted")
    if is_list(wanted):
        return _lists(array, wanted, nearest)
    if pt.is_struct(wanted):
        return _structs(array, wanted, nearest)
    if pt.is_map(wanted):
        return _maps(array, wanted, nearest)
    if is_moment(wanted):
        whole, wrong = (array, _none(array)) if is_moment(found) else as_numbers(array, pa.int64(), nearest=False)
        times, beyond = as_times(whole, wanted)
        return Conversion(times, wrong | beyond)
    if is_number(wanted):
        return Conversion(*as_numbers(array, wanted, nearest=nearest))
    return _by_cast(array, wanted)


def convert_exactly(
    column: pa.Array | pa.ChunkedArray, wanted: pa.DataType, where: str, *, nearest: bool = False
) -> pa.Array:
    """Convert a column to another type.

    Raises:
        InvalidInput: a value does not fit; the text is `where` with the row, the value and both types.
    """
    array = one_array(column)
    try:
        found = convert(array, wanted, nearest=nearest)
    except TypeError as error:
        raise InvalidInput(f"{where}: {error}") from None
    if found.wrong.any():
        row = int(np.argmax(found.wrong))
        raise InvalidInput(f"{where}, row {row}: {does_not_fit(array, row, wanted)}")
    return found.values


def first_lost(before: pa.Array, after: pa.Array) -> int | None:
    """Return the first row in which a null stands now, itself or inside its list, where a value was."""
    lost = nulls_of(after) & ~nulls_of(before)
    if lost.any():
        return int(np.argmax(lost))
    if is_list(before.type) and is_list(after.type):
        item = first_lost(one_array(pc.list_flatten(before)), one_array(pc.list_flatten(after)))
        return None if item is None else int(pc.list_parent_indices(after)[item].as_py())
    return None


def does_not_fit(array: pa.Array, row: int, wanted: pa.DataType) -> str:
    """Return the error text for a value that a type cannot hold."""
    return f"{array[row]!s:.60} ({array.type}) cannot be kept exactly as {wanted}; correct the value or widen the type"


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def is_text(kind: pa.DataType) -> bool:
    """Say whether a type holds text."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Say whether a type holds bytes."""
    simple = pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind)
    return bool(simple or pt.is_fixed_size_binary(kind))


def is_list(kind: pa.DataType) -> bool:
    """Say whether a type holds lists, of whatever layout."""
    simple = pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
    return bool(simple or pt.is_list_view(kind) or pt.is_large_list_view(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values themselves: a dictionary's value type, an extension's storage type."""
    if pt.is_dictionary(kind):
        return plain_type(kind.value_type)
    return plain_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _none(array: pa.Array) -> Bools:
    return np.zeros(len(array), dtype=np.bool_)


def _by_cast(array: pa.Array, wanted: pa.DataType) -> Conversion:
    """Convert text, bytes, times of day and durations, for which Arrow's safe casts are exact or fail."""
    try:
        return Conversion(array.cast(wanted), _none(array))
    except pa.ArrowInvalid:
        if len(array) == 1:
            return Conversion(pa.nulls(1, wanted), np.ones(1, dtype=np.bool_))
    middle = len(array) // 2
    parts = [_by_cast(part, wanted) for part in (array.slice(0, middle), array.slice(middle))]
    return Conversion(pa.concat_arrays([part.values for part in parts]), np.concatenate([part.wrong for part in parts]))


# --- nested ---------------------------------------------------------------------------------------------------------


def _lists(array: pa.Array, wanted: pa.DataType, nearest: bool) -> Conversion:
    gone = nulls_of(array)
    lengths = np.where(gone, 0, pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)).astype(
        np.int64
    )
    items = convert(one_array(pc.list_flatten(array)), wanted.value_type, nearest=nearest)
    owners = np.repeat(np.arange(len(array)), lengths)
    wrong = np.bincount(owners[items.wrong], minlength=len(array)).astype(np.bool_)
    if pt.is_fixed_size_list(wanted):
        wrong |= ~gone & (lengths != wanted.list_size)
        kept = np.flatnonzero(~(wrong | gone))
        flat = items.values.filter(pa.array(~wrong[owners]))
        starts = np.full(len(array), -1, dtype=np.int64)
        starts[kept] = np.arange(len(kept)) * wanted.list_size
        places = starts[:, None] + np.arange(wanted.list_size)
        filled = flat.take(pa.array(places.ravel(), mask=np.repeat(starts < 0, wanted.list_size)))
        made = pa.FixedSizeListArray.from_arrays(filled, type=wanted, mask=pa.array(wrong | gone))
        return Conversion(made, wrong)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    large = pt.is_large_list(wanted) or pt.is_large_list_view(wanted)
    kind, width = (pa.LargeListArray, pa.int64()) if large else (pa.ListArray, pa.int32())
    made = kind.from_arrays(pa.array(offsets).cast(width), items.values, mask=pa.array(wrong | gone))
    return Conversion(made.cast(wanted), wrong)


def _structs(array: pa.Array, wanted: pa.DataType, nearest: bool) -> Conversion:
    """Convert field by field. A value does not fit if it holds something in a field that the wanted type lacks."""
    gone, fields = nulls_of(array), dict(zip(array.type.names, array.flatten(), strict=True))
    wrong, made = _none(array), []
    for field in wanted:
        found = fields.pop(field.name, None)
        one = convert(pa.nulls(len(array)) if found is None else found, field.type, nearest=nearest)
        wrong |= one.wrong
        made.append(one.values)
    for unknown in fields.values():
        wrong |= ~nulls_of(unknown)
    wrong &= ~gone
    mask = pa.array(wrong | gone)
    return Conversion(pa.StructArray.from_arrays(made, fields=list(wanted), mask=mask), wrong)


def _maps(array: pa.Array, wanted: pa.DataType, nearest: bool) -> Conversion:
    gone = nulls_of(array)
    entries = pa.struct([pa.field("key", array.type.key_type, nullable=False), pa.field("value", array.type.item_type)])
    as_list = array.cast(pa.list_(entries))
    target = pa.struct([pa.field("key", wanted.key_type, nullable=False), pa.field("value", wanted.item_type)])
    found = _lists(as_list, pa.list_(target), nearest)
    flat = found.values.flatten()
    lengths = pc.list_value_length(found.values).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    keys, items = flat.flatten() if len(flat) else (pa.array([], wanted.key_type), pa.array([], wanted.item_type))
    mask = pa.array(found.wrong | gone)
    return Conversion(pa.MapArray.from_arrays(offsets, keys, items, type=wanted, mask=mask), found.wrong)
