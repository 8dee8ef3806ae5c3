"""Derives the type of a source's column from the view's declaration and from all of its files, not just the first.

Each file is read in its own type with its zones as UTC; `wanted_type` says what its values become.
"""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.types as pt

from stillpoint.stores.values.exact import fits, is_binary, is_list, is_text, plain_type
from stillpoint.stores.values.exact_times import is_moment

_UNITS = ("s", "ms", "us", "ns")


def in_utc(kind: pa.DataType) -> pa.DataType:
    """Return a type with every zone in it as UTC, dictionaries as what they encode, extensions as they are stored."""
    kind = plain_type(kind)
    if pt.is_timestamp(kind):
        return kind if kind.tz is None else pa.timestamp(kind.unit, tz="UTC")
    if pt.is_struct(kind):
        return pa.struct([field.with_type(in_utc(field.type)) for field in kind])
    if pt.is_map(kind):
        key, item = in_utc(kind.key_type), in_utc(kind.item_type)
        return kind if (key, item) == (kind.key_type, kind.item_type) else pa.map_(key, item)
    return _list_like(kind, in_utc(kind.value_type)) if is_list(kind) else kind


def has_other_zone(kind: pa.DataType) -> bool:
    """Return whether a type holds, at any depth, times of another zone than UTC; Polars crashes on some zones."""
    if pt.is_timestamp(kind):
        return kind.tz not in (None, "UTC")
    if pt.is_dictionary(kind):
        return has_other_zone(kind.value_type)
    return any(has_other_zone(kind.field(index).type) for index in range(kind.num_fields))


def is_untyped(kind: pa.DataType) -> bool:
    """Return whether a type, or one inside it, is Arrow's null type: the file tells nothing about the values."""
    return pt.is_null(kind) or any(is_untyped(kind.field(index).type) for index in range(kind.num_fields))


def common_type(types: Iterable[pa.DataType]) -> pa.DataType | None:
    """Return the type that can hold the values of all given types, in any order; None if they are of different kinds.

    Integers and floats together become Float64; an integer that Float64 cannot hold exactly is refused on reading.
    """
    result: pa.DataType = pa.null()
    for kind in sorted({in_utc(kind) for kind in types}, key=str):
        met = _common(result, kind)
        if met is None:
            return None
        result = met
    return result


def wanted_type(declared: pa.DataType | None, common: pa.DataType) -> pa.DataType:
    """Return the type to convert a column to: the declared kind of value, in the source's list layout and time unit."""
    if declared is None:
        return common
    if pt.is_null(common):
        return declared
    if is_list(declared) and is_list(common):
        return _list_like(common, wanted_type(declared.value_type, common.value_type))
    if pt.is_timestamp(declared) and pt.is_timestamp(common):
        return pa.timestamp(common.unit, tz=declared.tz)
    if (is_text(declared) and is_text(common)) or (is_binary(declared) and is_binary(common)):
        return common
    return declared if fits(common, declared) else common


def is_single(kind: pa.DataType) -> bool:
    """Return whether a type is Float32 or a list of it; numbers declared so are rounded to the nearest Float32."""
    return is_single(kind.value_type) if is_list(kind) else bool(pt.is_float32(kind))


def _list_like(kind: pa.DataType, item: pa.DataType) -> pa.DataType:
    if item == kind.value_type:
        return kind
    field = kind.value_field.with_type(item)
    if pt.is_fixed_size_list(kind):
        return pa.list_(field, kind.list_size)
    return pa.large_list(field) if pt.is_large_list(kind) or pt.is_large_list_view(kind) else pa.list_(field)


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one == other or pt.is_null(other):
        return one
    if pt.is_null(one):
        return other
    if is_text(one) and is_text(other):
        return pa.large_string() if pa.large_string() in (one, other) else pa.string()
    if is_binary(one) and is_binary(other):
        return pa.large_binary() if pa.large_binary() in (one, other) else pa.binary()
    if is_moment(one) and is_moment(other):
        return _common_moment(one, other)
    if is_list(one) and is_list(other):
        item = _common(one.value_type, other.value_type)
        large = any(pt.is_large_list(kind) or pt.is_large_list_view(kind) for kind in (one, other))
        return None if item is None else pa.large_list(item) if large else pa.list_(item)
    if pt.is_map(one) and pt.is_map(other):
        key, item = _common(one.key_type, other.key_type), _common(one.item_type, other.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if pt.is_struct(one) and pt.is_struct(other):
        return _common_struct(one, other)
    return _common_number(one, other)


def _common_moment(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    units = [kind.unit if pt.is_timestamp(kind) else "s" for kind in (one, other)]
    zoned = any(pt.is_timestamp(kind) and kind.tz for kind in (one, other))
    return pa.timestamp(max(units, key=_UNITS.index), tz="UTC" if zoned else None)


def _common_struct(one: pa.StructType, other: pa.StructType) -> pa.DataType | None:
    fields: dict[str, pa.DataType] = {}
    for field in (*one, *other):
        met = _common(fields.get(field.name, pa.null()), field.type)
        if met is None:
            return None
        fields[field.name] = met
    return pa.struct(list(fields.items()))


def _common_number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    kinds = (one, other)
    if pt.is_floating(one) and pt.is_floating(other):
        return max(kinds, key=lambda kind: int(kind.bit_width))
    if all(pt.is_decimal(kind) or pt.is_integer(kind) for kind in kinds):
        if all(pt.is_integer(kind) for kind in kinds):
            return _common_integer(one, other)
        shapes = [(kind.precision - kind.scale, kind.scale) if pt.is_decimal(kind) else (20, 0) for kind in kinds]
        scale = max(scale for _, scale in shapes)
        precision = min(max(whole for whole, _ in shapes) + scale, 76)
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    if all(pt.is_decimal(kind) or pt.is_integer(kind) or pt.is_floating(kind) for kind in kinds):
        return pa.float64()
    return None


def _common_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if pt.is_signed_integer(one) == pt.is_signed_integer(other):
        return max((one, other), key=lambda kind: int(kind.bit_width))
    unsigned, signed = (one, other) if pt.is_signed_integer(other) else (other, one)
    width = max(int(signed.bit_width), min(64, 2 * int(unsigned.bit_width)))
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[width]
