"""The last distribution of a feature: how many rows are null, what the others are, and how old the newest is. (pure)"""

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_OFTEN = 3


def distribution(rows: pa.Table, name: str, *, now: datetime) -> dict[str, Any]:
    """Return a feature's distribution over rows; empty if there are none. Lists are counted, and not looked into."""
    if not rows.num_rows:
        return {}
    values = rows[name]
    newest = pc.max(rows["event_timestamp"]).as_py()
    found: dict[str, Any] = {"rows": rows.num_rows, "null_share": round(values.null_count / rows.num_rows, 4)}
    known = values.drop_null()
    if len(known) and (pa.types.is_integer(known.type) or pa.types.is_floating(known.type)):
        found |= {"least": pc.min(known).as_py(), "mean": pc.mean(known).as_py(), "greatest": pc.max(known).as_py()}
    elif len(known) and (pa.types.is_string(known.type) or pa.types.is_boolean(known.type)):
        counts = sorted(known.value_counts().to_pylist(), key=lambda one: (-one["counts"], str(one["values"])))
        found["most_frequent"] = {str(one["values"]): one["counts"] for one in counts[:_OFTEN]}
    return found | {"newest": newest.isoformat(), "age_seconds": round((now - newest).total_seconds(), 1)}
