"""The batch engine that fills the online store: `batch_engine: {type: stillpoint.stores.engine.StillpointEngine}`.

Only the latest row of each entity is read, in bounded memory, and written column-wise in parallel batches. A fill may
be killed and run again, and may run beside a live stream: the ordered writer never lets an older row win.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from feast import Entity, FeatureStore
from feast.feature_view import FeatureViewState
from feast.infra.common.materialization_job import MaterializationJob, MaterializationJobStatus, MaterializationTask
from feast.infra.common.retrieval_task import HistoricalRetrievalTask
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel
from feast.utils import _get_column_names
from pydantic import Field

from stillpoint.clock import system_clock, to_micros
from stillpoint.errors import InvalidInput
from stillpoint.stores.future import TOLERANCE_SECONDS, until_now
from stillpoint.stores.history.latest import Pull
from stillpoint.stores.history.names import as_declared
from stillpoint.stores.history.types import view_types
from stillpoint.stores.materialize.computed import View, computed_rows, needs_computing
from stillpoint.stores.materialize.pace import Pace, Progress, at_most, slowest, wait_for, while_absent
from stillpoint.stores.materialize.sink import Sink, open_sink
from stillpoint.stores.offline import StillpointOfflineStore, in_repo, latest_tables, open_source


class StillpointEngineConfig(FeastConfigBaseModel):
    """The engine's settings in `feature_store.yaml`, under `batch_engine`."""

    type: Literal["stillpoint.stores.engine.StillpointEngine"] = "stillpoint.stores.engine.StillpointEngine"
    batch_rows: int = Field(default=2_500, ge=1, description="Entities written at once.")
    workers: int = Field(default=3, ge=1, le=64, description="Batches under way at once.")
    max_rows_per_second: float | None = Field(default=None, gt=0, description="Mean rate of a fill, per view.")
    pause_file: Path | None = Field(default=None, description="A fill waits while this file exists.")


class StillpointMaterializationJob(MaterializationJob):
    """A fill that has ended."""

    def __init__(self, task: MaterializationTask, error: BaseException | None = None) -> None:
        self.task = task
        self._error = error

    def status(self) -> MaterializationJobStatus:
        return MaterializationJobStatus.ERROR if self._error else MaterializationJobStatus.SUCCEEDED

    def error(self) -> BaseException | None:
        return self._error

    def should_be_retried(self) -> bool:
        return False

    def job_id(self) -> str:
        return f"{self.task.feature_view.name}-{self.task.start_time}-{self.task.end_time}"

    def url(self) -> str | None:
        return None


class StillpointEngine(ComputeEngine):
    """Materializes views; set `pace` and `on_progress` on `engine_of(store)` before a fill."""

    def __init__(
        self,
        *,
        repo_config: Any,
        offline_store: Any,
        online_store: Any,
        pace: Pace | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(repo_config=repo_config, offline_store=offline_store, online_store=online_store)
        self.settings = StillpointEngineConfig(**settings)
        self.pace = pace
        self.on_progress = on_progress

    def update(
        self,
        project: str,
        views_to_delete: Sequence[View],
        views_to_keep: Sequence[View | OnDemandFeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
    ) -> None:
        """Nothing to prepare."""

    def teardown_infra(self, project: str, fvs: Sequence[View], entities: Sequence[Entity]) -> None:
        """Nothing to tear down."""

    def get_historical_features(self, registry: BaseRegistry, task: HistoricalRetrievalTask) -> RetrievalJob | pa.Table:
        local = LocalComputeEngine(
            repo_config=self.repo_config,
            offline_store=self.offline_store,
            online_store=self.online_store,
            backend="pandas",
        )
        return local.get_historical_features(registry, task)

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> StillpointMaterializationJob:
        view = task.feature_view
        _keep_readable(registry, view, task.project)
        self._fill(registry, task)
        return StillpointMaterializationJob(task)

    def _fill(self, registry: BaseRegistry, task: MaterializationTask) -> None:
        """Write each entity's latest row that is not of the future.

        An error stops the fill. The rows written so far stay, and running the fill again completes it.
        """
        view = task.feature_view
        tolerance = getattr(self.repo_config.online_store, "future_tolerance_seconds", TOLERANCE_SECONDS)
        task = replace(task, end_time=until_now(view.name, task.end_time, now=system_clock(), tolerance=tolerance))
        entities = [registry.get_entity(name, task.project) for name in view.entities if name != "__dummy"]
        meter = _Meter(view.name, task.tqdm_builder, self.on_progress)
        if needs_computing(view):
            tables: Iterable[pa.Table] = self._computed(registry, task)
        elif getattr(self.repo_config.offline_store, "spark_parts", None):
            self._fill_on_spark(task, entities, meter)
            return
        else:
            tables = self._latest(task, entities)
        sink = open_sink(self.repo_config, self.online_store, view)
        pace = self._pace()
        with ThreadPoolExecutor(self.settings.workers) as pool:
            under_way: set[Future[int]] = set()
            for table in tables:
                meter.expect(table.num_rows)
                for batch in _batches(table, self.settings.batch_rows):
                    wait_for(pace, meter.progress)
                    if len(under_way) >= self.settings.workers:
                        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                        meter.add(sum(future.result() for future in done))
                    under_way.add(pool.submit(_write, sink, batch))
            meter.add(sum(future.result() for future in under_way))
        meter.close()

    def _fill_on_spark(self, task: MaterializationTask, entities: list[Entity], meter: "_Meter") -> None:
        """Fill from Spark's executors, without a pace: a pace limits one process only."""
        from stillpoint.stores.history.on_spark import fill_on_spark

        settings = self.repo_config.offline_store
        pull = _pull(task, entities)
        source = open_source(self.repo_config, task.feature_view.batch_source, pull.first, pull.last)
        write = partial(_write_part, self.repo_config, self.online_store, task.feature_view, self.settings.batch_rows)
        written = fill_on_spark(source, pull, write, chunk_rows=settings.chunk_rows, parts=settings.spark_parts)
        meter.expect(written)
        meter.add(written)
        meter.close()

    def _pace(self) -> Pace:
        paces = [self.pace] if self.pace else []
        if self.settings.max_rows_per_second:
            paces.append(at_most(self.settings.max_rows_per_second))
        if self.settings.pause_file:
            paces.append(while_absent(Path(in_repo(self.repo_config, str(self.settings.pause_file)))))
        return slowest(paces)

    def _latest(self, task: MaterializationTask, entities: list[Entity]) -> Iterator[pa.Table]:
        """Yield the latest rows under the names of the view's definition."""
        view = task.feature_view
        tables: Iterable[pa.Table]
        if isinstance(self.offline_store, StillpointOfflineStore):
            tables = latest_tables(self.repo_config, view.batch_source, _pull(task, entities))
        else:
            keys, features, event, created = _get_column_names(view, entities)
            job = self.offline_store.pull_latest_from_table_or_query(
                config=self.repo_config,
                data_source=view.batch_source,
                join_key_columns=keys,
                feature_name_columns=features,
                timestamp_field=event,
                created_timestamp_column=created,
                start_date=task.start_time,
                end_date=task.end_time,
            )
            tables = [job.to_arrow()]
        for table in tables:
            yield as_declared(table, view)

    def _computed(self, registry: BaseRegistry, task: MaterializationTask) -> Iterator[pa.Table]:
        """Yield the latest computed rows; a view of other views keeps them in its own source too, as Feast has it.

        A view over a source is not written back into it: the next fill would compute from what this one computed.
        """
        view = task.feature_view
        table = computed_rows(registry, task, self.get_execution_context(registry, task))
        if view.offline and view.source_views:
            self.offline_store.offline_write_batch(self.repo_config, view, table, None)
        yield table


def engine_of(store: FeatureStore) -> StillpointEngine:
    """Return the engine behind a Feast store, to set its `pace` or `on_progress` before `store.materialize`.

    Raises:
        InvalidInput: the store has another batch engine.
    """
    engine = store._get_provider().batch_engine
    if not isinstance(engine, StillpointEngine):
        raise InvalidInput(
            f"batch_engine is {type(engine).__name__}; set it to stillpoint.stores.engine.StillpointEngine"
        )
    return engine


def _pull(task: MaterializationTask, entities: list[Entity]) -> Pull:
    """Return which columns of the source a fill reads."""
    keys, features, event, created = _get_column_names(task.feature_view, entities)
    return Pull(
        keys=tuple(keys),
        features=tuple(features),
        event=event,
        created=created or None,
        first=None if task.disable_event_timestamp else to_micros(task.start_time),
        last=to_micros(task.end_time),
        view=task.feature_view.name,
        types=view_types(task.feature_view),
    )


def _write_part(config: Any, store: Any, view: View, rows: int, table: pa.Table) -> int:
    """Write one executor's latest rows."""
    sink = open_sink(config, store, view)
    return sum(_write(sink, batch) for batch in _batches(as_declared(table, view), rows))


def _keep_readable(registry: BaseRegistry, view: View, project: str) -> None:
    """Restore the view's state from before Feast set MATERIALIZING, in which feature servers refuse to read the view.

    Only `feast.FeatureStore.materialize` of a view that was filled before does so; its old values are good to read
    while new ones arrive one by one. A fill that is killed leaves the view available, not stuck.
    """
    if getattr(view, "state", None) is not FeatureViewState.MATERIALIZING:
        return
    view.state = FeatureViewState.AVAILABLE_ONLINE
    registry.apply_feature_view(view, project, commit=True)


def _batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _write(sink: Sink, batch: pa.Table) -> int:
    sink(batch)
    return int(batch.num_rows)


class _Meter:
    """Counts rows for Feast's progress bar and for `on_progress`."""

    def __init__(
        self, view: str, bar: Callable[[int], Any] | None, listener: Callable[[Progress], None] | None
    ) -> None:
        self._view, self._build, self._listener = view, bar, listener
        self._bar: Any = None
        self._rows = self._total = 0
        self._start = time.monotonic()

    def expect(self, rows: int) -> None:
        self._total += rows
        if self._bar is None and self._build:
            self._bar = self._build(self._total)
        elif self._bar is not None:
            self._bar.total = self._total

    def add(self, rows: int) -> None:
        self._rows += rows
        if self._bar is not None:
            self._bar.update(rows)
        if self._listener:
            self._listener(self.progress())

    def progress(self) -> Progress:
        seconds = time.monotonic() - self._start
        return Progress(view=self._view, rows=self._rows, total=self._total, seconds=seconds)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
