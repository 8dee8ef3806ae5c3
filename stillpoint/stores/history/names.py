"""Translates between a column's name in a source's files and its name in views.

Feast's `field_mapping` maps stored names to the views' names. `timestamp_field`, `created_timestamp_column` and join keys
may be given by either name, as Feast allows; both mean the same stored column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from feast import FeatureView
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID

from stillpoint.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Names:
    """The two names of each column of a source that is mapped."""

    mapping: Mapping[str, str]

    @classmethod
    def of(cls, source: DataSource) -> "Names":
        return cls(dict(source.field_mapping or {}))

    def stored(self, name: str) -> str:
        """Return the name in the files of a column that a definition names."""
        return next((stored for stored, called in self.mapping.items() if called == name), name)

    def called(self, stored: str) -> str:
        """Return the views' name of a column in the files."""
        return self.mapping.get(stored, stored)

    def mapped(self, name: str) -> str:
        """Return the views' name of a column that a definition names either way."""
        return self.called(self.stored(name))


def batch_source_of(view: FeatureView) -> DataSource:
    """Return the source of a view's history.

    Raises:
        InvalidInput: the view has none.
    """
    source = view.batch_source
    if source is None:
        raise InvalidInput(f"feature view {view.name!r} has no batch source; it has no history to read or to write")
    return source


def declared_columns(view: FeatureView) -> list[str]:
    """Return what a fill writes, by the names of the view's definition: keys, features, event and created time."""
    source = batch_source_of(view)
    names = [column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    names += [feature.name for feature in view.features]
    names += [name for name in (source.timestamp_field, source.created_timestamp_column) if name]
    return list(dict.fromkeys(names))


def as_declared(stored: pa.Table, view: FeatureView) -> pa.Table:
    """Return rows of a view's source under the names of the view's definition."""
    names = Names.of(batch_source_of(view))
    return pa.table({name: stored[names.stored(name)] for name in declared_columns(view)})


def as_computed(computed: pa.Table, view: FeatureView) -> pa.Table:
    """Rename rows that Feast has computed, which have the views' names, to the names of the view's definition.

    Raises:
        InvalidInput: a column is missing.
    """
    names = Names.of(batch_source_of(view))
    found = {name: _first((name, names.mapped(name)), computed) for name in declared_columns(view)}
    missing = [name for name, column in found.items() if column is None]
    if missing:
        raise InvalidInput(
            f"view {view.name!r}: what its function returns has no column {', '.join(map(repr, missing))}; "
            f"it has {', '.join(computed.column_names)}"
        )
    return pa.table({name: computed[column] for name, column in found.items()})


def _first(names: Sequence[str], table: pa.Table) -> str | None:
    return next((name for name in names if name in table.column_names), None)
