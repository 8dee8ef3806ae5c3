"""Recognises payloads in other formats than JSON, so that the error can tell the producer what to change. (pure)"""

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (
        b"\xf3\x89\x9a\xc2",
        "an aggregate of the Kinesis Producer Library; expected one event per record: set AggregationEnabled to false",
    ),
    (b"\x1f\x8b", "gzip; expected one event as plain JSON per record: turn the producer's compression off"),
    (b"\x28\xb5\x2f\xfd", "zstd; expected one event as plain JSON per record: turn the producer's compression off"),
    (b"BZh", "bzip2; expected one event as plain JSON per record: turn the producer's compression off"),
    (b"\xfd7zXZ\x00", "xz; expected one event as plain JSON per record: turn the producer's compression off"),
    (b"\x04\x22\x4d\x18", "lz4; expected one event as plain JSON per record: turn the producer's compression off"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy; expected one event as plain JSON per record: turn the compression off"),
    (b"PK\x03\x04", "a zip archive; expected one event as plain JSON per record"),
    (b"PAR1", "a Parquet file; expected one event as JSON per record"),
    (b"Obj\x01", "an Avro file; expected one event as JSON per record"),
    (b"\xef\xbb\xbf", "text that begins with a byte order mark; expected UTF-8 without one"),
    (b"\xff\xfe", "UTF-16; expected UTF-8"),
    (b"\xfe\xff", "UTF-16; expected UTF-8"),
)
_ZLIB = frozenset({b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"})


def foreign_format(payload: bytes) -> str | None:
    """Return the format of a payload, by its first bytes, and what to do about it; None for JSON or an unknown format."""
    for beginning, name in _BEGINNINGS:
        if payload.startswith(beginning):
            return name
    if payload[:2] in _ZLIB:
        return "zlib; expected one event as plain JSON per record: turn the producer's compression off"
    if payload[:1] in (b"{", b"[") and payload[1:2] == b"\x00":
        return "UTF-16; expected UTF-8"
    return None
