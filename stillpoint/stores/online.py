"""How does Feast use our online store? Name it in `feature_store.yaml`:

    online_store:
        type: stillpoint.stores.online.StillpointOnlineStore
        connection_string: 127.0.0.1:6379,db=0

The bytes in Redis are Feast's; writes are atomic and ordered, reads fetch each entity once, deletions never touch another
project. Versioned feature views are refused.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from feast import Entity, FeatureView, RepoConfig, utils
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel
from google.protobuf.message import DecodeError

from stillpoint.clock import from_micros, to_micros
from stillpoint.errors import CorruptData, InvalidInput, InvalidSettings, PlanRefused
from stillpoint.stores.connection import Topology, connect, connect_async, explain
from stillpoint.stores.connection_pipeline import Command, pack, send, send_async
from stillpoint.stores.corrupt import corrupt_time, corrupt_value
from stillpoint.stores.deletion import delete_project, delete_view
from stillpoint.stores.layout import (
    Column,
    ViewLayout,
    decode_time,
    encode_created,
    encode_time,
    event_field,
    feature_field,
)
from stillpoint.stores.values_types import ValueType
from stillpoint.stores.writer import NO_CREATED, EncodedRows, OnlineWriter

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
ReadRow = tuple[datetime | None, dict[str, Value] | None]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StillpointOnlineStoreConfig(FeastConfigBaseModel):
    """The `online_store` section; the fields mean what they mean for Feast's own Redis store."""

    type: Literal["stillpoint.stores.online.StillpointOnlineStore"] = "stillpoint.stores.online.StillpointOnlineStore"
    connection_string: str = "localhost:6379"
    redis_type: Topology = Topology.SINGLE
    sentinel_master: str = "mymaster"
    key_ttl_seconds: int | None = None
    full_scan_for_deletion: bool = True
    """Delete the fields of a removed view; only this project's keys are touched, exactly."""


class StillpointOnlineStore(OnlineStore):
    """Feast's online store interface over Redis, with atomic ordered writes and one fetch per entity."""

    def __init__(self) -> None:
        self._client: Any = None
        self._async_client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        return SupportedAsyncMethods(read=True, write=True)

    def _connection(self, config: RepoConfig) -> Any:
        _refuse_versions(config)
        if self._client is None:
            online = config.online_store
            self._client = connect(
                online.connection_string, topology=online.redis_type, sentinel_master=online.sentinel_master
            )
        return self._client

    def _async_connection(self, config: RepoConfig) -> Any:
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
        """Write rows; each replaces what is stored only if its (event, created) time is greater."""
        writer = OnlineWriter(
            self._connection(config), config.project, key_ttl_seconds=config.online_store.key_ttl_seconds
        )
        for layout, rows in _encoded(config, table, data):
            writer.write_encoded(layout, rows)
            if progress:
                progress(len(rows))

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Do what `online_write_batch` does, on the running event loop."""
        client = self._async_connection(config)
        writer = OnlineWriter(client, config.project, key_ttl_seconds=config.online_store.key_ttl_seconds)
        for layout, rows in _encoded(config, table, data):
            await writer.write_encoded_async(layout, rows)
            if progress:
                progress(len(rows))

    # --- reading ---

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Read one view. As in Feast's Redis store an unknown entity has null features and time 0."""
        wanted = _Wanted()
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
        """Do what `online_read` does, on the running event loop."""
        wanted = _Wanted()
        part = wanted.add(table, [_key(config, table, key) for key in entity_keys], requested_features)
        client = self._async_connection(config)
        return part.rows(wanted.replies(await send_async(client, wanted.commands()), client))

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[Any],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        wanted, parts = _plan_request(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        client = self._connection(config)
        replies = wanted.replies(send(client, wanted.commands()), client)
        _fill(parts, replies, online_features_response, full_feature_names, include_feature_view_version_metadata)

    async def _read_features_per_fv_async(
        self,
        config: RepoConfig,
        grouped_refs: list[Any],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        wanted, parts = _plan_request(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        client = self._async_connection(config)
        replies = wanted.replies(await send_async(client, wanted.commands()), client)
        _fill(parts, replies, online_features_response, full_feature_names, include_feature_view_version_metadata)

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
        """Delete the fields of views that left the registry, in exactly this project."""
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


class _Part:
    """One view of a request: which keys and fields it needs, and how rows are made of the replies."""

    def __init__(self, view: str, features: list[str], keys: list[bytes]) -> None:
        self.view = view
        self.features = features
        self.keys = keys

    def rows(self, replies: dict[bytes, dict[bytes, bytes | None]]) -> list[ReadRow]:
        fields = [feature_field(self.view, name) for name in self.features]
        stamp = event_field(self.view)
        result: list[ReadRow] = []
        for key in self.keys:
            stored = replies[key]
            values: dict[str, Value] = {}
            for name, hash_field in zip(self.features, fields, strict=True):
                data = stored[hash_field]
                try:
                    values[name] = Value.FromString(data) if data else Value()
                except DecodeError as error:
                    raise corrupt_value(self.view, name, key, str(error)) from None
            result.append((self._time(key, stored[stamp]), values) if values else (None, None))
        return result

    def _time(self, key: bytes, data: bytes | None) -> datetime:
        try:
            return from_micros(decode_time(data)) if data else _EPOCH
        except CorruptData:
            raise corrupt_time(self.view, key) from None


class _Wanted:
    """The fields that a request needs of each key, so that each key is asked for once."""

    def __init__(self) -> None:
        self._fields: dict[bytes, dict[bytes, None]] = {}

    def add(self, table: FeatureView, keys: list[bytes], requested: Sequence[str] | None) -> _Part:
        features = list(requested) if requested else [field.name for field in table.features]
        fields = dict.fromkeys([*(feature_field(table.name, name) for name in features), event_field(table.name)])
        for key in keys:
            self._fields.setdefault(key, {}).update(fields)
        return _Part(table.name, features, keys)

    def commands(self) -> list[Command]:
        return [
            Command(key, pack(b"HMGET", key, *fields), ("HMGET", key, *fields)) for key, fields in self._fields.items()
        ]

    def replies(self, answers: list[Any], client: Any) -> dict[bytes, dict[bytes, bytes | None]]:
        for answer in answers:
            if isinstance(answer, Exception):
                raise explain(answer, client)
        return {
            key: dict(zip(fields, answer, strict=True))
            for (key, fields), answer in zip(self._fields.items(), answers, strict=True)
        }


def _plan_request(
    config: RepoConfig, grouped_refs: list[Any], join_key_values: dict[str, Any], join_key_names: dict[str, str]
) -> tuple[_Wanted, list[tuple[_Part, Any, Any, int]]]:
    wanted = _Wanted()
    parts = []
    known: dict[Any, tuple[list[bytes], Any, int]] = {}
    for table, requested in grouped_refs:
        same = tuple(table.entities), tuple(table.projection.join_key_map.items())
        if same not in known:  # views of one entity have the same keys: they are found and encoded once
            values, indexes, rows = utils._get_unique_entities(table, join_key_values, join_key_names)
            keys = [_key(config, table, key) for key in utils._get_entity_key_protos(values)]
            known[same] = keys, indexes, rows
        keys, indexes, rows = known[same]
        parts.append((wanted.add(table, keys, requested), table, indexes, rows))
    return wanted, parts


def _fill(
    parts: list[tuple[_Part, Any, Any, int]], replies: Any, response: Any, full_names: bool, versions: bool
) -> None:
    for part, table, indexes, rows in parts:
        utils._populate_response_from_feature_data(
            part.features, part.rows(replies), indexes, response, full_names, table, rows, versions
        )
