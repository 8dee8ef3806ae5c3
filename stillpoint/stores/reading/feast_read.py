"""Serves Feast's own read calls: one Redis command per entity, and the replies as Feast's answer.

Redis holds serialized protobuf messages. The answer is assembled from their bytes and parsed once, in C, instead of
building one Python object per value.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from feast import FeatureView, utils
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.message import DecodeError

from stillpoint.clock import from_micros
from stillpoint.errors import CorruptData
from stillpoint.stores.reading.feast_request import ViewRows
from stillpoint.stores.redis.client import AnyRedis
from stillpoint.stores.redis.command import Command
from stillpoint.stores.redis.connection import explain
from stillpoint.stores.redis.corrupt import corrupt_time, corrupt_value
from stillpoint.stores.redis.hash_read import HashRead, encoding_command
from stillpoint.stores.redis.layout import event_field, feature_field
from stillpoint.stores.values.times import decode_time

ReadRow = tuple[datetime | None, dict[str, Value] | None]
Fields = tuple[bytes, ...]
Replies = dict[bytes, dict[bytes, bytes | None]]
"""The stored values of each key, by hash field."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT = 256


class HashReads:
    """Prepared reads by the fields that are asked for. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[Fields, HashRead] = {}

    def of(self, fields: Fields) -> HashRead:
        """Return the read of some fields, the same as long as it is remembered."""
        found = self._known.get(fields)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()  # requests with ever new lists of features must not fill the memory
            found = self._known.setdefault(fields, HashRead(fields))
        return found


@dataclass(frozen=True, slots=True)
class RequestPart:
    """One view of a request: its features with their hash fields, and the keys of its entities."""

    view: str
    features: list[str]
    fields: list[bytes]
    stamp: bytes
    keys: list[bytes]

    def rows(self, replies: Replies) -> list[ReadRow]:
        """Return time and values of each entity, as Feast's `online_read` does."""
        result: list[ReadRow] = []
        for key in self.keys:
            stored = replies[key]
            values: dict[str, Value] = {}
            for name, hash_field in zip(self.features, self.fields, strict=True):
                values[name] = self.value(name, key, stored[hash_field])
            moment = from_micros(self.micros(key, stored[self.stamp])) if stored[self.stamp] else _EPOCH
            result.append((moment, values) if values else (None, None))
        return result

    def value(self, feature: str, key: bytes, data: bytes | None) -> Value:
        try:
            return Value.FromString(data) if data else Value()
        except DecodeError as error:
            raise corrupt_value(self.view, feature, key, str(error)) from None

    def micros(self, key: bytes, data: bytes | None) -> int:
        try:
            return decode_time(data) if data else 0
        except CorruptData:
            raise corrupt_time(self.view, key) from None


class RequestedFields:
    """Collects the fields that a request needs of each key, so that each key is fetched once."""

    def __init__(self, reads: HashReads) -> None:
        self._reads = reads
        self._fields: dict[bytes, dict[bytes, None]] = {}
        self._undecided: dict[HashRead, bytes] = {}

    def add(self, table: FeatureView, keys: list[bytes], requested: Sequence[str] | None) -> RequestPart:
        """Add features of a view to the request, all of them if `requested` is None."""
        features = list(requested) if requested else [field.name for field in table.features]
        part = RequestPart(
            table.name, features, [feature_field(table.name, name) for name in features], event_field(table.name), keys
        )
        fields = dict.fromkeys([*part.fields, part.stamp])
        for key in keys:
            self._fields.setdefault(key, {}).update(fields)
        return part

    def show(self, view: ViewRows, rows: int) -> "AnsweredView":
        """Add a view's requested features, to be returned in `rows` rows."""
        return AnsweredView(self.add(view.table, view.keys, view.features), view.table, view.places, rows)

    def commands(self) -> list[Command]:
        """Return a command per key, and at the end how Redis keeps the hashes of which it is not known."""
        found: list[Command] = []
        for fields, run in groupby(self._fields, lambda key: tuple(self._fields[key])):
            read, keys = self._reads.of(fields), list(run)
            found += read.commands(keys)
            if read.undecided:
                self._undecided.setdefault(read, keys[0])
        return found + [encoding_command(key) for key in self._undecided.values()]

    def replies(self, answers: list[Any], client: AnyRedis) -> Replies:
        """Return the stored values in the commands' replies."""
        hashes, encodings = answers[: len(self._fields)], answers[len(self._fields) :]
        for answer in hashes:
            if isinstance(answer, Exception):
                raise explain(answer, client)
        for read, encoding in zip(self._undecided, encodings, strict=True):
            read.learn(encoding)
        return {
            key: dict(zip(fields, answer, strict=True))
            for (key, fields), answer in zip(self._fields.items(), hashes, strict=True)
        }


@dataclass(frozen=True, slots=True)
class AnsweredView:
    """A view of an answer: `indexes` are the row numbers of each of its keys, `rows` is the number of rows."""

    part: RequestPart
    table: FeatureView
    indexes: Iterable[Sequence[int]]
    rows: int


def fill(
    response: GetOnlineFeaturesResponse,
    shown: Sequence[AnsweredView],
    replies: Replies,
    *,
    full_names: bool,
    versions: bool,
) -> None:
    """Append the views' features to Feast's answer, with its names, statuses and times.

    Raises:
        CorruptData: stored bytes are not a value or time; names view, feature and key.
    """
    metrics = sys.modules.get("feast.metrics")  # a feature server that counts has imported it
    vectors: list[bytes] = []
    for one in shown:
        part, name = one.part, one.table.projection.name_to_use()
        response.metadata.feature_names.val.extend(
            f"{name}__{feature}" if full_names else feature for feature in part.features
        )
        if metrics is not None:
            metrics.track_feature_statuses(one.table.name, len(part.features) * one.rows, 0)
        if versions:  # by Feast's own code; it adds no vector, as no feature is named
            utils._populate_response_from_feature_data([], [], (), response, full_names, one.table, 0, versions)
        keys: list[bytes] = [b""] * one.rows
        times: list[bytes] = [b""] * one.rows
        for key, places in zip(part.keys, one.indexes, strict=True):
            data = replies[key][part.stamp]
            part.micros(key, data)  # is it one?
            time = _framed(_TIME, data or b"")
            for place in places:
                keys[place], times[place] = key, time
        stored = [replies[key] for key in keys]
        rest = _framed(_STATUSES, _PRESENT * one.rows) + b"".join(times)
        for field in part.fields:
            values = [_framed(_VALUE, row[field] or b"") for row in stored]
            vectors.append(_framed(_RESULT, b"".join(values) + rest))
    try:
        response.MergeFromString(b"".join(vectors))
    except DecodeError:
        for one in shown:
            one.part.rows(replies)  # names the corrupt one
        raise


def _framed(tag: bytes, data: bytes) -> bytes:
    """Return a length-delimited field of a protobuf message."""
    size = len(data)
    if size < 0x80:
        return tag + _SHORT[size] + data
    length = bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return tag + bytes(length) + data


def _tag(message: Any, name: str) -> bytes:
    return bytes([message.DESCRIPTOR.fields_by_name[name].number << 3 | 2])


_SHORT = [bytes([size]) for size in range(0x80)]
_RESULT = _tag(GetOnlineFeaturesResponse, "results")
_VALUE = _tag(GetOnlineFeaturesResponse.FeatureVector, "values")
_STATUSES = _tag(GetOnlineFeaturesResponse.FeatureVector, "statuses")
_TIME = _tag(GetOnlineFeaturesResponse.FeatureVector, "event_timestamps")
_PRESENT = bytes([FieldStatus.PRESENT])
