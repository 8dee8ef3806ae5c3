"""The online store plugin. Name it in `feature_store.yaml`:

    online_store:
        type: stillpoint.stores.online.StillpointOnlineStore
        connection_string: 127.0.0.1:6379,db=0

The bytes in Redis are Feast's; writes are atomic and ordered, reads fetch each entity once, deletions never touch another
project. Versioned feature views are refused.
"""

import asyncio
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import pandas as pd
from feast import Entity, FeatureService, FeatureView, RepoConfig, utils
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.online_response import OnlineResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel
from pydantic import model_validator

from stillpoint.clock import system_clock, to_micros
from stillpoint.errors import InvalidInput, InvalidSettings, PlanRefused
from stillpoint.stores.future import TOLERANCE_SECONDS, refuse_future_rows
from stillpoint.stores.history.names import batch_source_of
from stillpoint.stores.materialize.pushed_rows import pushed_rows
from stillpoint.stores.push import take_over_pushes
from stillpoint.stores.reading.feast_read import AnsweredView, HashReads, ReadRow, Replies, RequestedFields, fill
from stillpoint.stores.reading.feast_request import EntityRows, OnlineRequest, online_request
from stillpoint.stores.redis.client import AnyRedis, AsyncRedisClient, RedisClient
from stillpoint.stores.redis.connection import Topology, connect, connect_async
from stillpoint.stores.redis.deletion import delete_project, delete_view
from stillpoint.stores.redis.layout import Column, ViewLayout, encode_created
from stillpoint.stores.redis.pipeline import send, send_async
from stillpoint.stores.redis.writer import NO_CREATED, EncodedRows, OnlineWriter
from stillpoint.stores.rehearsal import is_rehearsal
from stillpoint.stores.values.times import encode_time
from stillpoint.stores.values.types import ValueType

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class StillpointOnlineStoreConfig(FeastConfigBaseModel):
    """The `online_store` section; the fields mean what they mean for Feast's own Redis store."""

    type: Literal["stillpoint.stores.online.StillpointOnlineStore"] = "stillpoint.stores.online.StillpointOnlineStore"
    connection_string: str = "localhost:6379"
    redis_type: Topology = Topology.SINGLE
    sentinel_master: str = "mymaster"
    key_ttl_seconds: int | None = None
    """Seconds until an entity's key vanishes, counted from the last row that was written for it, in whatever view."""
    future_tolerance_seconds: float | None = TOLERANCE_SECONDS
    """Rows that happen later than now and this are refused by a push and left out of a fill; null takes any time."""
    full_scan_for_deletion: bool | None = True
    """Delete the fields of a removed view; only this project's keys are touched, exactly."""
    skip_dedup: bool = False
    """Accepted, without effect: times are compared within the writing call, so there is no round trip to save."""
    client: Literal["redis", "glide"] = "redis"
    """Accepted, without effect: all fields are fetched by one pipeline, whose answers are parsed in C."""

    @model_validator(mode="after")
    def _tell(self) -> "StillpointOnlineStoreConfig":
        for name in ("skip_dedup", "client"):
            if getattr(self, name) != type(self).model_fields[name].default:
                warnings.warn(
                    f"online_store.{name} is {getattr(self, name)!r}, a setting of Feast's own Redis store that changes "
                    "nothing in this one: an older row never replaces a newer one, and reads do not go through a client "
                    "of Feast's; leave it out",
                    stacklevel=2,
                )
        take_over_pushes()
        return self


class StillpointOnlineStore(OnlineStore):
    """Feast's online store interface over Redis, with atomic ordered writes and one fetch per entity."""

    def __init__(self) -> None:
        self._client: RedisClient | None = None
        self._async_client: AsyncRedisClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reads = HashReads()

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        return SupportedAsyncMethods(read=True, write=True)

    def _connection(self, config: RepoConfig) -> RedisClient:
        _refuse_versions(config)
        if self._client is None:
            online = config.online_store
            self._client = connect(
                online.connection_string, topology=online.redis_type, sentinel_master=online.sentinel_master
            )
        return self._client

    def _async_connection(self, config: RepoConfig) -> AsyncRedisClient:
        _refuse_versions(config)
        loop = asyncio.get_running_loop()
        if self._async_client is None or self._loop is not loop:
            online = config.online_store
            self._async_client = connect_async(
                online.connection_string, topology=online.redis_type, sentinel_master=online.sentinel_master
            )
            self._loop = loop
        return self._async_client

    async def close(self) -> None:
        """Close the asyncio connections. Feast calls it when a server stops."""
        if self._async_client is not None:
            await self._async_client.aclose()
            self._async_client = None

    # --- writing ---

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows in their order; each replaces what is stored unless its (event, created) time is smaller."""
        encoded = _encoded(config, table, data)
        for _, rows in encoded:
            refuse_future_rows(
                table.name, rows, now=system_clock(), tolerance=config.online_store.future_tolerance_seconds
            )
        if is_rehearsal():
            return
        writer = self._writer(config, self._connection(config))
        for layout, rows in encoded:
            writer.write_encoded(layout, rows)
            if progress:
                progress(len(rows))

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Write as `online_write_batch`, on the running event loop."""
        encoded = _encoded(config, table, data)
        for _, rows in encoded:
            refuse_future_rows(
                table.name, rows, now=system_clock(), tolerance=config.online_store.future_tolerance_seconds
            )
        if is_rehearsal():
            return
        writer = self._writer(config, self._async_connection(config))
        for layout, rows in encoded:
            await writer.write_encoded_async(layout, rows)
            if progress:
                progress(len(rows))

    def _writer(self, config: RepoConfig, client: AnyRedis) -> OnlineWriter:
        return OnlineWriter(client, config.project, key_ttl_seconds=config.online_store.key_ttl_seconds)

    def write_frame(self, config: RepoConfig, view: FeatureView, frame: pd.DataFrame) -> None:
        """Write a pushed frame as a fill writes the same rows; within a rehearsal only check it.

        Raises:
            InvalidInput: a column is missing, a value does not fit its type, or a row is of the future; nothing was written.
        """
        layout, rows = pushed_rows(view, batch_source_of(view), frame, config.project)
        refuse_future_rows(view.name, rows, now=system_clock(), tolerance=config.online_store.future_tolerance_seconds)
        if not is_rehearsal():
            self._writer(config, self._connection(config)).write_encoded(layout, rows)

    async def write_frame_async(self, config: RepoConfig, view: FeatureView, frame: pd.DataFrame) -> None:
        """Write as `write_frame`, on the running event loop."""
        layout, rows = pushed_rows(view, batch_source_of(view), frame, config.project)
        refuse_future_rows(view.name, rows, now=system_clock(), tolerance=config.online_store.future_tolerance_seconds)
        if not is_rehearsal():
            await self._writer(config, self._async_connection(config)).write_encoded_async(layout, rows)

    # --- reading ---

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Read one view. As in Feast's Redis store an unknown entity has null features and time 0."""
        wanted = RequestedFields(self._reads)
        part = wanted.add(table, [_key(config, table, key) for key in entity_keys], requested_features)
        client = self._connection(config)
        return part.rows(wanted.replies(send(client, wanted.commands()), client))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Read as `online_read`, on the running event loop."""
        wanted = RequestedFields(self._reads)
        part = wanted.add(table, [_key(config, table, key) for key in entity_keys], requested_features)
        client = self._async_connection(config)
        return part.rows(wanted.replies(await send_async(client, wanted.commands()), client))

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Answer Feast's whole call: each view by its own join keys, each entity fetched once.

        Feast's precomputed vectors (`precompute_online`) are not used: reading the views' present values is as quick.
        """
        request = online_request(registry, project, features, entity_rows, full_feature_names)
        self._check_versioned_read_support([(one.table, one.features) for one in request.views])
        wanted, client, start = RequestedFields(self._reads), self._connection(config), time.monotonic()
        shown = [wanted.show(one, request.rows) for one in request.views]
        replies = wanted.replies(send(client, wanted.commands()), client)
        return _to_response(request, shown, replies, full_feature_names, include_feature_view_version_metadata, start)

    async def get_online_features_async(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Read as `get_online_features`, on the running event loop."""
        request = online_request(registry, project, features, entity_rows, full_feature_names)
        self._check_versioned_read_support([(one.table, one.features) for one in request.views])
        wanted, client, start = RequestedFields(self._reads), self._async_connection(config), time.monotonic()
        shown = [wanted.show(one, request.rows) for one in request.views]
        replies = wanted.replies(await send_async(client, wanted.commands()), client)
        return _to_response(request, shown, replies, full_feature_names, include_feature_view_version_metadata, start)

    # --- infrastructure ---

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Delete the fields of views that were removed from the registry, in exactly this project."""
        _refuse_versions(config)
        if not config.online_store.full_scan_for_deletion:
            return
        for table in tables_to_delete:
            delete_view(self._connection(config), config.project, _names_only(table))

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Delete the entities of these views, in exactly this project."""
        for join_keys in sorted({tuple(sorted(table.join_keys)) for table in tables}):
            delete_project(self._connection(config), config.project, join_keys)


def _refuse_versions(config: RepoConfig) -> None:
    if getattr(config.registry, "enable_online_feature_view_versioning", False):
        raise PlanRefused(
            "registry.enable_online_feature_view_versioning is on; version numbers differ between registries, so this "
            "store refuses them: turn it off and give a changed view a new name"
        )
    if config.entity_key_serialization_version != 3:
        raise InvalidSettings(
            f"entity_key_serialization_version is {config.entity_key_serialization_version}; this store writes version 3"
        )


def _names_only(table: FeatureView) -> ViewLayout:
    return ViewLayout(
        name=table.name,
        join_keys=tuple(Column(name, ValueType.STRING) for name in table.join_keys),
        features=tuple(Column(field.name, ValueType.BYTES) for field in table.features),
    )


def _encoded(config: RepoConfig, table: FeatureView, data: list[Row]) -> list[tuple[ViewLayout, EncodedRows]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in data:
        groups.setdefault(tuple(row[1]), []).append(row)
    encoded = []
    for names, rows in groups.items():
        layout = ViewLayout(table.name, (), tuple(Column(name, ValueType.BYTES) for name in names))
        events = [encode_time(_micros(table.name, row[2])) for row in rows]
        created = [
            encode_created(_micros(table.name, row[3]), event)
            if row[3] is not None and row[3] == row[3]
            else NO_CREATED
            for row, event in zip(rows, events, strict=True)
        ]
        keys = [_key(config, table, row[0]) for row in rows]
        values = [[row[1][name].SerializeToString() for row in rows] for name in names]
        encoded.append((layout, EncodedRows(keys, events, created, values)))
    return encoded


def _micros(view: str, moment: Any) -> int:
    if moment is None or moment != moment:
        raise InvalidInput(f"view {view}: a row has no event timestamp")
    return to_micros(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _key(config: RepoConfig, table: FeatureView, key: EntityKey) -> bytes:
    try:
        return b"".join((serialize_entity_key(key, 3), config.project.encode()))
    except ValueError as error:
        raise InvalidInput(
            f"view {table.name}: an entity key is null or of a type that cannot be a key: {error}"
        ) from None


def _to_response(
    request: OnlineRequest, shown: list[AnsweredView], replies: Replies, full_names: bool, versions: bool, start: float
) -> OnlineResponse:
    fill(request.response, shown, replies, full_names=full_names, versions=versions)
    metrics = sys.modules.get("feast.metrics")
    if metrics is not None and metrics._config.online_features:
        metrics.track_online_store_read(time.monotonic() - start)
    types = OnlineStore._build_feature_types([(one.table, one.features) for one in request.views])
    if request.on_demand:
        utils._augment_response_with_on_demand_transforms(
            request.response, request.references, request.on_demand, full_names, feature_types=types
        )
    utils._drop_unneeded_columns(request.response, request.shown)
    return OnlineResponse(request.response, feature_types=types)
