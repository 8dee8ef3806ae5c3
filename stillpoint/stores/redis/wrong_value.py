"""Names the feature and entity of a value that does not fit its type."""

from typing import Any

from stillpoint.errors import InvalidInput
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import Column, ViewLayout, describe_key
from stillpoint.stores.values.columns import encode_column


def wrong_value(layout: ViewLayout, column: Column, table: Any, project: str) -> InvalidInput:
    """Return the error for the first row of a table whose value of `column` cannot be encoded."""
    values = table.column(column.name)
    first, end = 0, len(values)
    while end - first > 1:
        middle = (first + end) // 2
        try:
            encode_column(column.type, values.slice(first, middle - first))
        except InvalidInput:
            end = middle
        else:
            first = middle
    where = f"feature {layout.name}:{column.name}"
    try:
        encode_column(column.type, values.slice(first, 1))
    except InvalidInput as error:
        (key,) = encode_keys(layout, table.slice(first, 1), project)
        return InvalidInput(
            f"{where}, entity {describe_key(key)}, row {first}: {error}; found {values[first].as_py()!r:.60}"
        )
    return InvalidInput(f"{where}: a value does not fit type {column.type}")
