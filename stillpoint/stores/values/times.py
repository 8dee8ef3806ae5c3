"""Feast's protobuf timestamps as microseconds, and back, without protobuf."""

from stillpoint.errors import CorruptData
from stillpoint.stores.values.encode import varint


def encode_time(micros: int) -> bytes:
    """Return the protobuf `Timestamp` of `micros` microseconds since 1970, as `_ts:` holds it."""
    seconds, rest = divmod(micros, 1_000_000)
    out = b"" if seconds == 0 else b"\x08" + varint(seconds)
    return out if rest == 0 else out + b"\x10" + varint(rest * 1000)


def decode_time(data: bytes) -> int:
    """Return microseconds since 1970 of a protobuf `Timestamp`; nanoseconds are cut off.

    Raises:
        CorruptData: the bytes are no timestamp.
    """
    size = len(data)
    if (
        size == 12
    ):  # nearly all times, microseconds and milliseconds: seconds of five bytes, nanoseconds of five or four
        tag, a, b, c, d, e, other, f, g, h, i, j = data
        if (
            tag == 0x08
            and other == 0x10
            and a > 127 < b
            and c > 127 < d
            and f > 127 < g
            and h > 127 < i
            and e < 128 > j
        ):
            seconds = a + (b << 7) + (c << 14) + (d << 21) + (e << 28) - 0x10204080
            return seconds * 1_000_000 + (f + (g << 7) + (h << 14) + (i << 21) + (j << 28) - 0x10204080) // 1000
    elif size == 11:
        tag, a, b, c, d, e, other, f, g, h, i = data
        if tag == 0x08 and other == 0x10 and a > 127 < b and c > 127 < d and f > 127 < g and h > 127 and e < 128 > i:
            seconds = a + (b << 7) + (c << 14) + (d << 21) + (e << 28) - 0x10204080
            return seconds * 1_000_000 + (f + (g << 7) + (h << 14) + (i << 21) - 0x204080) // 1000
    return _any_time(data)


def _any_time(data: bytes) -> int:
    position, seconds, nanos, size = 0, 0, 0, len(data)
    while position < size:
        tag = data[position]
        value, shift = 0, 0
        while True:
            position += 1
            if position >= size or shift > 63:
                raise CorruptData(f"{data!r} is no protobuf timestamp")
            value |= (data[position] & 0x7F) << shift
            shift += 7
            if data[position] < 0x80:
                break
        position += 1
        if tag == 0x08:
            seconds = value - (1 << 64) if value >> 63 else value
        elif tag == 0x10:
            nanos = value
        else:
            raise CorruptData(f"{data!r} is no protobuf timestamp")
    return seconds * 1_000_000 + nanos // 1000
