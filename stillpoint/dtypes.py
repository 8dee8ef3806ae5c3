"""The types of an event's fields, and those of features as Feast names them."""

from enum import StrEnum


class Kind(StrEnum):
    """What an event's field or a table's column holds; a time is a column's only."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "flag"
    TEXTS = "texts"
    TIME = "time"


EMBEDDING_LENGTH = 256
"""How many numbers an embedding has."""


class DType(StrEnum):
    """The type of a feature."""

    INT64 = "Int64"
    FLOAT64 = "Float64"
    BOOL = "Bool"
    STRING = "String"
    EMBEDDING = "Array(Float32)"
    STRINGS = "Array(String)"
    INT64S = "Array(Int64)"
    FLOAT64S = "Array(Float64)"

    @property
    def is_scalar(self) -> bool:
        """Whether it is one value: what a model takes as a column."""
        return not self.value.startswith("Array")


NUMERIC = frozenset({Kind.INTEGER, Kind.NUMBER})
SCALAR = {Kind.TEXT: DType.STRING, Kind.INTEGER: DType.INT64, Kind.NUMBER: DType.FLOAT64, Kind.FLAG: DType.BOOL}
LISTS = {Kind.TEXT: DType.STRINGS, Kind.INTEGER: DType.INT64S, Kind.NUMBER: DType.FLOAT64S}
