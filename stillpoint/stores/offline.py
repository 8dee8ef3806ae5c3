"""The offline store plugin: `type: stillpoint.stores.offline.StillpointOfflineStore`.

Each spine row comes back exactly once and in order, from Parquet in folders, globs and S3, or from the committed files
of a lake. This module translates Feast's calls; the work is done in `history/`.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, FileSource
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import Field, SecretStr, model_validator

from stillpoint.clock import from_micros, system_clock, to_micros
from stillpoint.errors import InvalidInput, InvalidSpine, NothingStored
from stillpoint.lake.datasets import DateRange
from stillpoint.stores.future import CREATED, EVENT, TOLERANCE_SECONDS, refuse_future
from stillpoint.stores.history.job import StillpointRetrievalJob
from stillpoint.stores.history.join import JoinLimits, join_history
from stillpoint.stores.history.latest import Pull, all_rows, every_column, latest_rows, newest_event
from stillpoint.stores.history.metrics import Kind, Metric, countable, metric
from stillpoint.stores.history.monitoring import MetricFiles
from stillpoint.stores.history.names import Names, batch_source_of
from stillpoint.stores.history.sources import (
    S3Access,
    SourceTable,
    filesystem_of,
    lake_dataset,
    open_lake,
    open_lake_dataset,
    open_path,
)
from stillpoint.stores.history.spine import EVENT_TIMESTAMP, Spine, read_spine
from stillpoint.stores.history.types import refuse_null_items, request_types, spelled_for_feast, view_types
from stillpoint.stores.history.views import ViewRequest, view_request
from stillpoint.stores.history.write import PushedRows, append_to_path, write_file, write_to_lake
from stillpoint.stores.history.zones import refuse_dropped_offsets, typed_into_feast
from stillpoint.stores.materialize.computed_history import computed_source, computes_history
from stillpoint.stores.materialize.pushed_rows import pushed_times
from stillpoint.stores.push import take_over_pushes
from stillpoint.stores.values.exact import one_array
from stillpoint.stores.values.exact_times import utc_micros

log = logging.getLogger(__name__)


class S3Config(FeastConfigBaseModel):
    """Where S3 is and who asks; what is left out comes from AWS's own chain."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None


class StillpointOfflineStoreConfig(FeastConfigBaseModel):
    """The store's settings in `feature_store.yaml`, under `offline_store`."""

    type: Literal["stillpoint.stores.offline.StillpointOfflineStore"] = (
        "stillpoint.stores.offline.StillpointOfflineStore"
    )
    lake_root: str | None = Field(default=None, description="Sources below it are read by the lake's commits.")
    mapping_version: int | None = Field(default=None, description="The only id mapping that may be read.")
    created_cutoff: bool = Field(default=False, description="Join only what was known at each spine row's time.")
    add_event_timestamps: bool = Field(default=False, description="Add `<view>__event_timestamp` for each view.")
    s3: S3Config = S3Config()
    future_tolerance_seconds: float | None = Field(
        default=TOLERANCE_SECONDS,
        description="Rows that happen later than now and this are refused; null takes any time.",
    )
    chunk_rows: int = Field(default=2_000_000, ge=1, description="Rows of a source that are read at once.")
    rows_in_memory: int = Field(default=20_000_000, ge=1, description="Rows whose keys and times are held at once.")
    spark_parts: int | None = Field(
        default=None, ge=1, description="Join and fill on Spark's executors, in so many parts; unset: in this process."
    )

    @model_validator(mode="after")
    def _take_over(self) -> "StillpointOfflineStoreConfig":
        take_over_pushes()
        return self


class StillpointOfflineStore(OfflineStore):
    """Point-in-time history over Parquet, with Feast's interface."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pa.Table | pl.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Join features to a spine: a DataFrame, an Arrow table, or a SQL query over the sources by name.

        Without a spine, answer for every entity of the views' sources as of `end_date`, from rows since `start_date`.
        `created_cutoff` of the configuration, or `filter_by_created_timestamp`, leaves out rows created after the spine row.

        Raises:
            InvalidSpine: a join key or the time is missing, null or of a wrong type, or the time has no zone although
                `coerce_tz_aware` is false.
            UnknownFeature: a view has no such feature.
            InvalidInput: a source is missing, lacks a column, or holds another type than declared.
        """
        settings = _settings(config)
        views = [
            view_request(
                view,
                feature_refs,
                full_feature_names=full_feature_names,
                add_event_timestamp=settings.add_event_timestamps,
            )
            for view in feature_views
        ]
        for view in views:
            _refuse_other_mapping(config, _path(config, view.source), view.source.name)
        naive_is_utc = bool(config.coerce_tz_aware) or typed_into_feast()
        if entity_df is None:
            spine = _everybody(config, views, start_date, end_date)
        elif isinstance(entity_df, str):
            selected = _query(config, entity_df, views, registry, project)
            spine = read_spine(selected, naive_is_utc=naive_is_utc, sql=True)
        else:
            spine = read_spine(entity_df, naive_is_utc=naive_is_utc)
        since = _micros(start_date)

        def opened(view: ViewRequest, first: int | None, last: int) -> SourceTable:
            return open_source(config, view.source, first, last)

        computed = {
            request.view: view for request, view in zip(views, feature_views, strict=True) if computes_history(view)
        }
        if computed and settings.spark_parts is not None:
            raise InvalidInput(
                f"view {next(iter(computed))!r} computes its history by a function in this process; leave out spark_parts"
            )

        def opened_or_computed(scratch: Path, view: ViewRequest, first: int | None, last: int) -> SourceTable:
            source = opened(view, first, last)
            if view.view not in computed:
                return source
            rows = settings.chunk_rows
            return computed_source(computed[view.view], source, first, last, chunk_rows=rows, scratch=scratch)

        cutoff = settings.created_cutoff or filter_by_created_timestamp
        limits = JoinLimits(chunk_rows=settings.chunk_rows, key_rows=settings.rows_in_memory)

        def joined() -> pa.Table:
            if settings.spark_parts is None:
                with TemporaryDirectory(prefix="stillpoint-") as scratch:
                    either = partial(opened_or_computed, Path(scratch))
                    return join_history(spine, views, either, cutoff=cutoff, limits=limits, since=since)
            from stillpoint.stores.history.on_spark import join_on_spark

            return join_on_spark(
                spine, views, opened, cutoff=cutoff, limits=limits, since=since, parts=settings.spark_parts
            )

        return StillpointRetrievalJob(
            joined,
            access=_access(config, None),
            resolve=partial(in_repo, config),
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in spine.table.column_names if name != spine.time_column],
                min_event_timestamp=from_micros(int(spine.times.min())) if len(spine.times) else None,
                max_event_timestamp=from_micros(int(spine.times.max())) if len(spine.times) else None,
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Return each entity's latest row between two times, both included; null keys are left out.

        Without a feature named, every column of the source comes back: so Feast reads for a view with a function.
        """
        pull = _pull(
            join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column, start_date, end_date
        )

        def compute() -> pa.Table:
            wanted = pull
            if not feature_name_columns:
                wanted = every_column(pull, open_source(config, data_source, pull.first, pull.last))
            return pa.concat_tables(latest_tables(config, data_source, wanted))

        return StillpointRetrievalJob(compute, access=_access(config, data_source), resolve=partial(in_repo, config))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Return every row between two times, both included, in the order in which they are stored.

        Without a feature named, every column of the source comes back: so Feast reads for a view with a function.
        """
        pull = _pull(
            join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column, start_date, end_date
        )

        def compute() -> pa.Table:
            source = open_source(config, data_source, pull.first, pull.last)
            wanted = pull if feature_name_columns else every_column(pull, source)
            return all_rows(source, wanted, chunk_rows=_settings(config).chunk_rows)

        return StillpointRetrievalJob(compute, access=_access(config, data_source), resolve=partial(in_repo, config))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to a view's source: a commit in the lake, a new file in a folder, or one file replaced atomically.

        Rows come by the view's names, as Feast hands them over, and are stored by the source's.

        Raises:
            InvalidInput: the columns are not the source's, one of them cannot hold a value exactly, or a row is of the future.
        """
        source = batch_source_of(feature_view)
        names = Names.of(source)
        table = table.rename_columns([names.stored(name) for name in table.column_names])
        for name in (source.timestamp_field, source.created_timestamp_column):
            table = _with_times(table, names.stored(name), feature_view.name) if name else table
        tolerance = _settings(config).future_tolerance_seconds
        for name, what in ((source.timestamp_field, EVENT), (source.created_timestamp_column, CREATED)):
            times = _written_times(table, names.stored(name), feature_view.name) if name else []
            refuse_future(feature_view.name, times, (), now=system_clock(), tolerance=tolerance, what=what)
        for feature in feature_view.features:
            stored = names.stored(feature.name)
            if stored in table.column_names:
                where = f"view {feature_view.name!r}, feature {feature.name!r}"
                refuse_null_items(one_array(table[stored]), feature.dtype, where)
        pushed = PushedRows(view=feature_view.name, table=table, types=view_types(feature_view))
        path = _path(config, source)
        root = _lake_root(config)
        dataset = lake_dataset(path, root)
        if root is not None and dataset is not None:
            _refuse_other_mapping(config, path, source.name)
            lake = open_lake(root, _access(config, source))
            write_to_lake(lake, dataset, pushed, event=names.stored(source.timestamp_field), at=system_clock())
        else:
            access = _access(config, source)
            columns = open_path(path, source.name, access).columns_to_write(pushed.types)
            append_to_path(path, pushed, access, columns, at=system_clock())
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add logged features to a folder of files as a new file."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise InvalidInput(f"logging destination {type(destination).__name__}: expected FileLoggingDestination")
        table = pq.read_table(data) if isinstance(data, Path) else data
        access = _access(config, None).at(destination.s3_endpoint_override)
        filesystem, inner = filesystem_of(in_repo(config, destination.path), access)
        write_file(filesystem, f"{inner}/{system_clock():%Y%m%dT%H%M%S%f}.parquet", table)

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: DataSource,
        feature_columns: list[tuple[str, Kind]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[Metric]:
        """Return each feature's metrics over the rows between two times, both included; each is read by itself.

        A feature that the source does not hold, or holds as lists, maps or structs, has none; a line in the log names it.
        """
        source = open_source(config, data_source, _micros(start_date), _micros(end_date))
        names = Names.of(data_source)
        found = []
        for feature, kind in feature_columns:
            column = names.stored(feature)
            if column not in source.schema.names or not countable(kind, source.schema.field(column).type):
                held = source.schema.field(column).type if column in source.schema.names else "no such column"
                log.warning("no metrics of feature %r: source %r holds %s", feature, source.name, held)
                continue
            pull = _pull((), (column,), names.stored(timestamp_field), None, start_date, end_date)
            rows = all_rows(source, pull, chunk_rows=_settings(config).chunk_rows)
            found.append(metric(feature, kind, rows[column], bins=histogram_bins, top=top_n))
        return found

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: DataSource, timestamp_field: str
    ) -> datetime | None:
        """Return the newest event time of a source, None where nothing is stored yet."""
        try:
            source = open_source(config, data_source, None, None)
        except NothingStored:
            return None
        event = Names.of(data_source).stored(timestamp_field)
        newest = newest_event(source, event, chunk_rows=_settings(config).chunk_rows)
        return None if newest is None else from_micros(newest)

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        """Make the files in which metrics are kept."""
        _metric_files(config).prepare()

    @staticmethod
    def save_monitoring_metrics(config: RepoConfig, metric_type: str, metrics: list[dict[str, Any]]) -> None:
        """Store metrics; a row replaces the stored row of the same key."""
        _metric_files(config).save(metric_type, metrics)

    @staticmethod
    def query_monitoring_metrics(
        config: RepoConfig,
        project: str,
        metric_type: str,
        filters: dict[str, Any] | None = None,
        start_date: date | None = None,
        end_date: date | None = None,
    ) -> list[dict[str, Any]]:
        """Return kept metrics in order of their dates."""
        return _metric_files(config).query(metric_type, project, filters, start_date, end_date)

    @staticmethod
    def clear_monitoring_baseline(
        config: RepoConfig,
        project: str,
        feature_view_name: str | None = None,
        feature_name: str | None = None,
        data_source_type: str | None = None,
    ) -> None:
        """Clear the baseline flag of the matching features' metrics."""
        wanted = {
            "feature_view_name": feature_view_name,
            "feature_name": feature_name,
            "data_source_type": data_source_type,
        }
        _metric_files(config).clear_baseline(project, wanted)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Refuse at `feast apply` a source that could never be read. One without files yet is accepted."""
        _path(config, data_source)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Return a source's columns and Arrow types, as Feast infers a view's schema from them.

        For the lake they are as declared, written to or not.
        """
        schema = open_source(config, data_source, None, None).schema
        return [(field.name, spelled_for_feast(field.type)) for field in schema]


def open_source(config: RepoConfig, source: DataSource, first: int | None, last: int | None) -> SourceTable:
    """Open a Feast source for events between two times (microseconds; None is open).

    Raises:
        InvalidInput: it is not a Parquet FileSource, is not there, or belongs to another id mapping.
    """
    path = _path(config, source)
    _refuse_other_mapping(config, path, source.name)
    access = _access(config, source)
    root = _lake_root(config)
    dataset = lake_dataset(path, root)
    if root is None or dataset is None:
        return open_path(path, source.name, access)
    between = DateRange(_day(first), _day(last))
    return open_lake_dataset(open_lake(root, access), dataset, source.name, access, between)


def latest_tables(config: RepoConfig, source: DataSource, pull: Pull) -> Iterable[pa.Table]:
    """Yield each entity's latest row, a part of the entities at a time, for materialization in bounded memory."""
    settings = _settings(config)
    return latest_rows(
        open_source(config, source, pull.first, pull.last),
        pull,
        chunk_rows=settings.chunk_rows,
        entities_at_once=settings.rows_in_memory,
    )


def _with_times(table: pa.Table, name: str, view: str) -> pa.Table:
    """Return a table whose times are times where they are text, read as an online push reads them."""
    place = table.schema.get_field_index(name)
    if place < 0 or pa.types.is_timestamp(table.schema.field(place).type):
        return table
    times = pa.array(pushed_times(table[name].to_pandas().rename(name), view), pa.int64())
    return table.set_column(place, name, times.cast(pa.timestamp("us", tz="UTC")))


def _written_times(table: pa.Table, name: str, view: str) -> list[int | None]:
    """Return a column's moments in microseconds; none where there is no such column of times."""
    if name not in table.column_names or not pa.types.is_timestamp(table[name].type):
        return []
    try:
        times: list[int | None] = utc_micros(one_array(table[name])).to_pylist()
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"view {view}: column {name}: {error}") from None
    return times


def _settings(config: RepoConfig) -> StillpointOfflineStoreConfig:
    settings = config.offline_store
    if not isinstance(settings, StillpointOfflineStoreConfig):
        raise InvalidInput(f"offline_store is configured as {type(settings).__name__}; expected StillpointOfflineStore")
    return settings


def _path(config: RepoConfig, source: DataSource) -> str:
    if not isinstance(source, FileSource):
        raise InvalidInput(f"source {source.name!r} is a {type(source).__name__}; this offline store reads FileSource")
    if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
        raise InvalidInput(f"source {source.name!r} is {type(source.file_format).__name__}; expected Parquet")
    return in_repo(config, source.path)


def in_repo(config: RepoConfig, path: str) -> str:
    """Resolve a path as Feast does: relative to the folder of `feature_store.yaml`, not to the process's folder.

    Applies to sources, saved datasets, logged features and the lake.
    """
    return str(FileSource.get_uri_for_file_path(config.repo_path, path.removeprefix("file://")))


def _metric_files(config: RepoConfig) -> MetricFiles:
    return MetricFiles(Path(config.repo_path or "."))


def _lake_root(config: RepoConfig) -> str | None:
    root = _settings(config).lake_root
    return None if root is None else in_repo(config, root)


def _access(config: RepoConfig, source: DataSource | None) -> S3Access:
    s3 = _settings(config).s3
    given = (source.resolve_credentials() or {}) if isinstance(source, FileSource) else {}
    endpoint = source.s3_endpoint_override if isinstance(source, FileSource) else None
    secret = s3.secret_access_key.get_secret_value() if s3.secret_access_key else None
    token = s3.session_token.get_secret_value() if s3.session_token else None
    return S3Access(
        endpoint_url=endpoint or s3.endpoint_url,
        region=given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or s3.region,
        access_key_id=given.get("AWS_ACCESS_KEY_ID") or s3.access_key_id,
        secret_access_key=given.get("AWS_SECRET_ACCESS_KEY") or secret,
        session_token=given.get("AWS_SESSION_TOKEN") or token,
    )


def _refuse_other_mapping(config: RepoConfig, path: str, name: str) -> None:
    settings = _settings(config)
    dataset = lake_dataset(path, _lake_root(config))
    if dataset is None or not dataset.startswith("mappings/"):
        return
    version = dataset.removeprefix("mappings/")
    if version != str(settings.mapping_version):
        raise InvalidInput(
            f"source {name!r} is id mapping {version}, and this store is bound to mapping_version "
            f"{settings.mapping_version}; reading another mapping would predict for other users"
        )


def _pull(
    keys: Sequence[str],
    features: Sequence[str],
    event: str,
    created: str | None,
    first: datetime | None,
    last: datetime | None,
) -> Pull:
    return Pull(
        keys=tuple(keys),
        features=tuple(features),
        event=event,
        created=created or None,
        first=_micros(first),
        last=_micros(last),
    )


def _micros(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    # As in Feast's commands, a date without a zone is UTC.
    return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _day(micros: int | None) -> Any:
    return None if micros is None or abs(micros) > 2**55 else from_micros(micros).date()


def _query(
    config: RepoConfig, sql: str, views: Sequence[ViewRequest], registry: BaseRegistry, project: str
) -> pl.DataFrame:
    """Run a spine's SQL (Polars' dialect) over the registered sources and views that it names."""
    refuse_dropped_offsets(sql)
    sources = {source.name: source for source in registry.list_data_sources(project)}
    sources |= {view.view: view.source for view in views}
    tables = {}
    for name, source in sources.items():
        if isinstance(source, FileSource) and re.search(rf"\b{re.escape(name)}\b", sql):
            declared = {
                column: kind
                for view in views
                if view.source.name == source.name
                for column, kind in request_types(view).items()
            }
            table = open_source(config, source, None, None).towards(declared, f"source {name!r}")
            # Only the sources that the query names: the other sources' columns need not be readable.
            named = [column for column in table.schema.names if column.lower() in sql.lower()]
            names = table.schema.names if "*" in sql or not named else named
            tables[name] = pl.concat(
                chunk.in_wanted_types(chunk.read(names), names) for chunk in table.chunks(_settings(config).chunk_rows)
            )
    try:
        return pl.SQLContext(tables).execute(sql, eager=True)
    except pl.exceptions.PolarsError as error:
        raise InvalidSpine(
            f"the spine's SQL failed: {error}; it may name these sources: {', '.join(sorted(sources))}"
        ) from None


def _everybody(config: RepoConfig, views: Sequence[ViewRequest], start: datetime | None, end: datetime | None) -> Spine:
    """Return a spine of every entity of the views' sources at the end of a range."""
    last = _micros(end)
    keys = {tuple(key.spine for key in view.keys) for view in views}
    if last is None or len(keys) != 1:
        raise InvalidInput("without a spine give an end_date, and views of one and the same entity")
    frames = []
    for view in views:
        pull = _pull([key.source for key in view.keys], (), view.event, view.created, start, end)
        pull = replace(pull, view=view.view, types=request_types(view))
        frames += [
            pl.from_arrow(table.select([key.source for key in view.keys]).rename_columns([k.spine for k in view.keys]))
            for table in latest_tables(config, view.source, pull)
        ]
    entities = pl.concat([frame for frame in frames if isinstance(frame, pl.DataFrame)]).unique(maintain_order=True)
    time = pl.lit(from_micros(last)).cast(pl.Datetime("us", "UTC")).alias(EVENT_TIMESTAMP)
    return read_spine(entities.with_columns(time))
