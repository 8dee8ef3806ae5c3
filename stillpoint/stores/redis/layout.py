"""The layout in Redis: a feature's key, hash field and timestamp field.

Feast's layout (entity key serialization version 3), implemented without Feast:

- One hash per entity and project. Key: `u32le(n)`, then for each join key sorted by name `u32le(2) u32le(length) name`,
  then for each value in that order `u32le(type) u32le(length) bytes`, then the project's name.
- Feature field: little-endian murmur3_x86_32 (seed 0) of `<view>:<feature>`. Value: a serialized `feast.types.Value`.
- `_ts:<view>`: a serialized protobuf `Timestamp`, the event time. It alone tells that the view holds the entity.
- `_cts:<view>`: Stillpoint's own field, ignored by Feast. 8 bytes of created time (5 bytes little-endian signed seconds,
  3 bytes microseconds), then a copy of the `_ts:<view>` written with it. If the copy differs from `_ts:<view>`, stock
  Feast has written the view since, and the created time is unknown.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from stillpoint.app.records import View
from stillpoint.dtypes import DType
from stillpoint.errors import InvalidInput
from stillpoint.stores.values.types import KEY_TYPES, ValueType

ENTITYLESS_KEY = "__dummy_id"
"""The join key that Feast gives to a view without entities; its value is always the empty string."""


@dataclass(frozen=True, slots=True)
class Column:
    """A join key or a feature, with its type."""

    name: str
    type: ValueType


@dataclass(frozen=True)
class ViewLayout:
    """Where and how one feature view is stored; `max_age_us` None means that values never expire."""

    name: str
    join_keys: tuple[Column, ...]
    features: tuple[Column, ...]
    max_age_us: int | None = None

    def __post_init__(self) -> None:
        for key in self.join_keys:
            if key.type not in KEY_TYPES:
                allowed = ", ".join(sorted(KEY_TYPES))
                raise InvalidInput(
                    f"view {self.name}: join key {key.name} has type {key.type}; a key can be one of {allowed}; "
                    "declare the entity's value_type"
                )

    @classmethod
    def of(cls, view: View) -> "ViewLayout":
        """Return the layout of a declared view (`stillpoint.app.records`)."""
        return cls(
            name=view.name,
            join_keys=tuple(Column(key, ValueType.STRING) for key in view.entity.keys),
            features=tuple(Column(feature.name, _DECLARED[feature.dtype]) for feature in view),
            max_age_us=None if view.ttl is None else round(view.ttl.total_seconds() * 1_000_000),
        )

    @cached_property
    def sorted_join_keys(self) -> tuple[Column, ...]:
        return tuple(sorted(self.join_keys, key=lambda key: key.name))

    @cached_property
    def fields(self) -> tuple[bytes, ...]:
        """Hash fields of the features, in order."""
        return tuple(feature_field(self.name, feature.name) for feature in self.features)

    @cached_property
    def event_field(self) -> bytes:
        return event_field(self.name)

    @cached_property
    def created_field(self) -> bytes:
        return created_field(self.name)


_DECLARED = {
    DType.INT64: ValueType.INT64,
    DType.FLOAT64: ValueType.DOUBLE,
    DType.BOOL: ValueType.BOOL,
    DType.STRING: ValueType.STRING,
    DType.EMBEDDING: ValueType.FLOAT_LIST,
    DType.STRINGS: ValueType.STRING_LIST,
    DType.INT64S: ValueType.INT64_LIST,
    DType.FLOAT64S: ValueType.DOUBLE_LIST,
}


@lru_cache(maxsize=65_536)
def feature_field(view: str, feature: str) -> bytes:
    """Return the 4-byte hash field of a feature. Compiling a read plan refuses two features that collide.

    >>> feature_field("demand", "views_30d").hex()
    'd41fb5f4'
    """
    return _murmur3(f"{view}:{feature}".encode()).to_bytes(4, "little")


def event_field(view: str) -> bytes:
    return b"_ts:" + view.encode()


def created_field(view: str) -> bytes:
    return b"_cts:" + view.encode()


def key_prefix(join_keys: Sequence[str]) -> bytes:
    """Return the common beginning of the keys of all entities with these join keys, in any order.

    >>> key_prefix(["user_id"])
    b'\\x01\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\x07\\x00\\x00\\x00user_id'
    """
    parts = [struct.pack("<I", len(join_keys))]
    for name in sorted(join_keys):
        encoded = name.encode()
        parts.append(struct.pack("<II", KEY_TYPES[ValueType.STRING], len(encoded)) + encoded)
    return b"".join(parts)


def parse_key(key: bytes) -> tuple[tuple[str, ...], tuple[tuple[int, bytes], ...], bytes] | None:
    """Split a key of Feast's layout into join keys, (type, bytes) values, and the project.

    Returns None if the key is not of this layout. There are as many values as join keys, so the project is exactly the
    rest, even if it ends with another project's name.

    >>> parse_key(key_prefix(["user_id"]) + b"\\x02\\x00\\x00\\x00\\x02\\x00\\x00\\x00" + b"u7" + b"stillpoint_green")
    (('user_id',), ((2, b'u7'),), b'stillpoint_green')
    """
    try:
        (count,) = struct.unpack_from("<I", key, 0)
        if count > 64:
            return None
        position, names, values = 4, [], []
        for _ in range(count):
            kind, length = struct.unpack_from("<II", key, position)
            position += 8 + length
            if kind != KEY_TYPES[ValueType.STRING] or position > len(key):
                return None
            names.append(key[position - length : position].decode())
        for _ in range(count):
            kind, length = struct.unpack_from("<II", key, position)
            position += 8 + length
            if kind not in _KEY_NUMBERS or position > len(key):
                return None
            values.append((kind, key[position - length : position]))
    except (struct.error, UnicodeDecodeError):
        return None
    return tuple(names), tuple(values), key[position:]


def describe_key(key: bytes) -> str:
    """Return the entity of a key in words, for error messages.

    >>> describe_key(key_prefix(["user_id"]) + b"\\x02\\x00\\x00\\x00\\x02\\x00\\x00\\x00" + b"u7" + b"stillpoint_green")
    'user_id=u7'
    """
    parsed = parse_key(key)
    if parsed is None:
        return repr(key)
    shown = []
    for name, (kind, raw) in zip(parsed[0], parsed[1], strict=True):
        if kind == KEY_TYPES[ValueType.STRING]:
            shown.append(f"{name}={raw.decode(errors='replace')}")
        elif kind == KEY_TYPES[ValueType.BYTES]:
            shown.append(f"{name}={raw!r}")
        else:
            shown.append(f"{name}={int.from_bytes(raw, 'little', signed=True)}")
    return ", ".join(shown)


def encode_created(created_us: int, event: bytes) -> bytes:
    """Return the value of `_cts:` for a created time; `event` is the value of `_ts:` that is written with it."""
    seconds, rest = divmod(created_us, 1_000_000)
    return seconds.to_bytes(5, "little", signed=True) + rest.to_bytes(3, "little") + event


def decode_created(data: bytes | None, event: bytes | None) -> int | None:
    """Return the created time in microseconds since 1970, or None if it is unknown for this value of `_ts:`."""
    if data is None or event is None or data[8:] != event or len(data) < 8:
        return None
    return int.from_bytes(data[:5], "little", signed=True) * 1_000_000 + int.from_bytes(data[5:8], "little")


_KEY_NUMBERS = frozenset(KEY_TYPES.values())


def _murmur3(data: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0 (Austin Appleby, public domain), as Feast hashes field names."""
    mask, h = 0xFFFFFFFF, 0
    body = len(data) & ~3

    def mix(k: int) -> int:
        k = k * 0xCC9E2D51 & mask
        return ((k << 15 | k >> 17) & mask) * 0x1B873593 & mask

    for i in range(0, body, 4):
        h ^= mix(int.from_bytes(data[i : i + 4], "little"))
        h = ((h << 13 | h >> 19) & mask) * 5 + 0xE6546B64 & mask
    if len(data) > body:
        h ^= mix(int.from_bytes(data[body:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    return h ^ h >> 16
