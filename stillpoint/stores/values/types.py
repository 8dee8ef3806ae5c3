"""The types that a feature can have, and their numbers in Feast's messages."""

from enum import StrEnum

NULL_TIMESTAMP = -(2**63)
"""Feast's integer for a missing time inside a value."""


class ValueType(StrEnum):
    """Feast's value types, by Feast's names."""

    BYTES = "BYTES"
    STRING = "STRING"
    INT32 = "INT32"
    INT64 = "INT64"
    DOUBLE = "DOUBLE"
    FLOAT = "FLOAT"
    BOOL = "BOOL"
    UNIX_TIMESTAMP = "UNIX_TIMESTAMP"
    BYTES_LIST = "BYTES_LIST"
    STRING_LIST = "STRING_LIST"
    INT32_LIST = "INT32_LIST"
    INT64_LIST = "INT64_LIST"
    DOUBLE_LIST = "DOUBLE_LIST"
    FLOAT_LIST = "FLOAT_LIST"
    BOOL_LIST = "BOOL_LIST"
    UNIX_TIMESTAMP_LIST = "UNIX_TIMESTAMP_LIST"
    MAP = "MAP"
    MAP_LIST = "MAP_LIST"
    BYTES_SET = "BYTES_SET"
    STRING_SET = "STRING_SET"
    INT32_SET = "INT32_SET"
    INT64_SET = "INT64_SET"
    DOUBLE_SET = "DOUBLE_SET"
    FLOAT_SET = "FLOAT_SET"
    BOOL_SET = "BOOL_SET"
    UNIX_TIMESTAMP_SET = "UNIX_TIMESTAMP_SET"
    PDF_BYTES = "PDF_BYTES"
    IMAGE_BYTES = "IMAGE_BYTES"
    JSON = "JSON"
    JSON_LIST = "JSON_LIST"
    STRUCT = "STRUCT"
    STRUCT_LIST = "STRUCT_LIST"
    UUID = "UUID"
    TIME_UUID = "TIME_UUID"
    UUID_LIST = "UUID_LIST"
    TIME_UUID_LIST = "TIME_UUID_LIST"
    UUID_SET = "UUID_SET"
    TIME_UUID_SET = "TIME_UUID_SET"
    VALUE_LIST = "VALUE_LIST"
    VALUE_SET = "VALUE_SET"
    DECIMAL = "DECIMAL"
    DECIMAL_LIST = "DECIMAL_LIST"
    DECIMAL_SET = "DECIMAL_SET"
    SCALAR_MAP = "SCALAR_MAP"
    ZONED_TIMESTAMP = "ZONED_TIMESTAMP"


_NUMBERS = {
    1: "BYTES", 2: "STRING", 3: "INT32", 4: "INT64", 5: "DOUBLE", 6: "FLOAT", 7: "BOOL", 8: "UNIX_TIMESTAMP",
    11: "BYTES_LIST", 12: "STRING_LIST", 13: "INT32_LIST", 14: "INT64_LIST", 15: "DOUBLE_LIST", 16: "FLOAT_LIST",
    17: "BOOL_LIST", 18: "UNIX_TIMESTAMP_LIST", 20: "MAP", 21: "MAP_LIST", 22: "BYTES_SET", 23: "STRING_SET",
    24: "INT32_SET", 25: "INT64_SET", 26: "DOUBLE_SET", 27: "FLOAT_SET", 28: "BOOL_SET", 29: "UNIX_TIMESTAMP_SET",
    32: "JSON", 33: "JSON_LIST", 34: "STRUCT", 35: "STRUCT_LIST", 36: "UUID", 37: "TIME_UUID", 38: "UUID_LIST",
    39: "TIME_UUID_LIST", 40: "UUID_SET", 41: "TIME_UUID_SET", 42: "VALUE_LIST", 43: "VALUE_SET", 44: "DECIMAL",
    45: "DECIMAL_LIST", 46: "DECIMAL_SET", 47: "SCALAR_MAP", 48: "ZONED_TIMESTAMP",
}  # fmt: skip
FIELD_NUMBERS: dict[ValueType, int] = {ValueType(name): number for number, name in _NUMBERS.items()} | {
    ValueType.PDF_BYTES: 1,
    ValueType.IMAGE_BYTES: 1,
}
"""The field of `feast.types.Value` that holds a type."""
TYPE_OF_FIELD = {number: ValueType(name) for number, name in _NUMBERS.items()}
"""What a field holds; where several types share one, the type that Feast reads back."""
NULL_FIELD = 19

KEY_TYPES: dict[ValueType, int] = {
    ValueType.BYTES: 1,
    ValueType.STRING: 2,
    ValueType.INT32: 3,
    ValueType.INT64: 4,
    ValueType.UNIX_TIMESTAMP: 8,
}
"""The types that a join key can have, and their numbers in a key."""


def element_type(type: ValueType) -> str | None:
    """Return the name of a list's or set's element type, None for everything else."""
    for suffix in ("_LIST", "_SET"):
        if type.endswith(suffix):
            return type[: -len(suffix)]
    return None


ELEMENT_CODES = {"INT32": "i", "INT64": "i", "UNIX_TIMESTAMP": "i", "BOOL": "b", "DOUBLE": "<d", "FLOAT": "<f"}
"""How numbers lie in a packed list: as varints of whole numbers (i) or of flags (b), or as `struct` formats."""
