"""Computes the history of a view with a function: what the function returns for the source's rows, as a fill does online.

A join asks what was known at each moment, so each row that the function returns must correspond to one source row, by keys
and event time; it may change and drop rows. A function that aggregates rows is refused, since its results would contain
later rows; such results belong in a source of their own.
"""

import uuid
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.latest import Pull, all_rows, every_column
from stillpoint.stores.history.names import Names, as_computed, batch_source_of
from stillpoint.stores.history.sources import S3Access, SourceTable, open_path
from stillpoint.stores.materialize.computed import ExactPandas, needs_computing


def computes_history(view: FeatureView) -> bool:
    """Return whether the view's features must be computed from its source's rows; a view of views stores them instead."""
    return needs_computing(view) and not view.source_views


def computed_source(
    view: FeatureView, raw: SourceTable, first: int | None, last: int, *, chunk_rows: int, scratch: Path
) -> SourceTable:
    """Apply the view's function to a source's rows between two times; the result is written to the folder `scratch`.

    Raises:
        InvalidInput: the view aggregates, or its function returns rows that are not the source's.
    """
    function = getattr(view, "feature_transformation", None)
    if getattr(view, "aggregations", None) or function is None:
        raise InvalidInput(_refusal(view, "it aggregates rows"))
    names = Names.of(batch_source_of(view))
    event = names.stored(batch_source_of(view).timestamp_field)
    pull = Pull(keys=(), features=(), event=event, created=None, first=first, last=last)
    rows = all_rows(raw, every_column(pull, raw), chunk_rows=chunk_rows)
    pandas = ExactPandas()
    given = pandas.from_arrow(rows.rename_columns([names.called(name) for name in rows.column_names]))
    made = as_computed(pandas.to_arrow(getattr(function, "udf", function)(given)), view)
    stored = pa.table({names.stored(name): made[name] for name in made.column_names})
    keys = [names.stored(column.name) for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    if not _are_rows_of(stored.select([*keys, event]), rows.select([*keys, event])):
        raise InvalidInput(_refusal(view, "its function returns rows whose keys and times are not the source's"))
    path = scratch / f"{uuid.uuid4()}.parquet"
    pq.write_table(stored, path)
    return open_path(str(path), raw.name, S3Access())


def _are_rows_of(made: pa.Table, source: pa.Table) -> bool:
    one, other = pl.from_arrow(made), pl.from_arrow(source)
    assert isinstance(one, pl.DataFrame)
    assert isinstance(other, pl.DataFrame)
    try:
        return one.join(other, on=one.columns, how="anti", nulls_equal=True).is_empty()
    except pl.exceptions.PolarsError:
        return False


def _refusal(view: FeatureView, why: str) -> str:
    return (
        f"view {view.name!r} cannot be joined to history: {why}, so its values at a moment are not known; "
        "keep what it computes in a source and declare a view over that (the sink_source of a view of views)"
    )
