"""Computes the rows of a view with a function, aggregations or other views as its source, by Feast's own plan.

The plan is Feast's local one, in pandas, with five corrections: each node has its own name (Feast's nodes overwrite each
other if a view has several sources), a function gets one frame per source, every view's own field mapping is applied, of
rows with equal times the one stored last wins, and aggregates keep their entity's newest times.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.common.materialization_job import MaterializationTask
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.infra.compute_engines.dag.context import ColumnInfo, ExecutionContext
from feast.infra.compute_engines.dag.node import DAGNode
from feast.infra.compute_engines.local.arrow_table_value import ArrowTableValue
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.local_node import LocalNode
from feast.infra.compute_engines.local.nodes import LocalAggregationNode, LocalSourceReadNode
from feast.infra.registry.base_registry import BaseRegistry

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.names import as_computed, batch_source_of

View = Any
"""A `FeatureView`, `BatchFeatureView` or `StreamFeatureView`."""

EXACT_IN_FLOATS = 2**53


def needs_computing(view: View) -> bool:
    """Return whether the view's features must be computed from its source, instead of being read from it."""
    return bool(
        getattr(view, "source_views", None)
        or getattr(view, "feature_transformation", None)
        or getattr(view, "aggregations", None)
    )


def computed_rows(registry: BaseRegistry, task: MaterializationTask, context: ExecutionContext) -> pa.Table:
    """Return each entity's latest computed row, under the names of the view's definition.

    Raises:
        InvalidInput: the result lacks a declared column, or a node of the plan fails.
    """
    view = task.feature_view
    value = _Builder(registry, task, ExactPandas()).build().execute(context)
    table = as_computed(value.data, view)
    keys = [column.name for column in view.entity_columns if column.name in table.column_names]
    for name in keys:
        table = table.filter(table[name].is_valid())
    return table


def beyond_floats(column: pa.ChunkedArray) -> bool:
    """Return whether pandas would round a column of whole numbers: it holds a null and a number beyond 2**53."""
    if not pa.types.is_integer(column.type) or not column.null_count:
        return False
    ends = pc.min_max(column).as_py()
    return bool(max(abs(ends["min"] or 0), abs(ends["max"] or 0)) > EXACT_IN_FLOATS)


class ExactPandas(PandasBackend):
    """Feast's pandas backend, but large whole numbers in a column with nulls stay exact (as pandas's `Int64`)."""

    def from_arrow(self, table: pa.Table) -> pd.DataFrame:
        frame: pd.DataFrame = table.to_pandas()
        for field in table.schema:
            if beyond_floats(table[field.name]):
                frame[field.name] = table[field.name].to_pandas(types_mapper=_NULLABLE.get)
        return frame

    def to_arrow(self, df: pd.DataFrame) -> pa.Table:
        return pa.Table.from_pandas(df, preserve_index=False)


_NULLABLE: dict[pa.DataType, Any] = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}


class _Builder(LocalFeatureBuilder):
    def _build(self, view: View, input_nodes: list[DAGNode] | None) -> DAGNode:
        before = len(self.nodes)
        last: DAGNode = super()._build(view, input_nodes)
        for node in self.nodes[before:]:
            node.name = f"{view.name}: {node.name}"
        return last

    def get_column_info(self, view: View) -> ColumnInfo:
        return replace(super().get_column_info(view), field_mapping=batch_source_of(view).field_mapping)

    def build_source_node(self, view: View) -> DAGNode:
        return self._added(
            LocalSourceReadNode(
                "source", batch_source_of(view), self.get_column_info(view), self.task.start_time, self.task.end_time
            )
        )

    def build_aggregation_node(self, view: View, input_node: DAGNode) -> DAGNode:
        if any(aggregation.time_window for aggregation in view.aggregations):
            raise InvalidInput(
                f"view {view.name!r} aggregates over time windows, which Feast computes only on its Spark and Flink "
                "engines; fill it there, or store the aggregates and declare a view over them"
            )
        info = self.get_column_info(view)
        ops = {
            aggregation.resolved_name(): (_PANDAS.get(aggregation.function, aggregation.function), aggregation.column)
            for aggregation in view.aggregations
        }
        times = [column for column in (info.timestamp_column, info.created_timestamp_column) if column]
        ops |= {column: ("max", column) for column in times}
        return self._added(LocalAggregationNode("agg", self.backend, info.join_keys_columns, ops, inputs=[input_node]))

    def build_transformation_node(self, view: View, input_nodes: list[DAGNode]) -> DAGNode:
        found = view.feature_transformation
        return self._added(_Transformed("transform", getattr(found, "udf", found), self.backend, input_nodes))

    def build_dedup_node(self, view: View, input_node: DAGNode) -> DAGNode:
        return self._added(_Newest("dedup", self.get_column_info(view), self.backend, [input_node]))

    def build_output_nodes(self, view: View, input_node: DAGNode) -> DAGNode:
        return input_node

    def _added(self, node: DAGNode) -> DAGNode:
        self.nodes.append(node)
        return node


_PANDAS = {"count_distinct": "nunique"}


class _Transformed(LocalNode):
    """Runs the view's function over a frame of each of its sources, in their order."""

    def __init__(
        self, name: str, function: Callable[..., pd.DataFrame], backend: PandasBackend, inputs: list[DAGNode]
    ) -> None:
        super().__init__(name, inputs=inputs)
        self._function, self._backend = function, backend

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        frames = [self._backend.from_arrow(value.data) for value in self.get_input_tables(context)]
        return ArrowTableValue(self._backend.to_arrow(self._function(*frames)))


class _Newest(LocalNode):
    """Keeps each entity's newest row; of equal times the one stored last."""

    def __init__(self, name: str, info: ColumnInfo, backend: PandasBackend, inputs: list[DAGNode]) -> None:
        super().__init__(name, inputs=inputs)
        self._info, self._backend = info, backend

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        frame = self._backend.from_arrow(self.get_single_table(context).data)
        times = [self._info.timestamp_column, self._info.created_timestamp_column]
        by = [column for column in times if column and column in frame.columns]
        ordered = frame.sort_values(by=by, kind="stable", na_position="first")
        keys = self._info.join_keys_columns
        newest = ordered.drop_duplicates(subset=keys, keep="last") if keys else ordered.tail(1)
        return ArrowTableValue(self._backend.to_arrow(newest))
