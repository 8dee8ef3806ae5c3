"""Payloads of hostile and broken clients, by the thousand, from a seed."""

import base64
import json
import random
import uuid
from datetime import timedelta

_STRANGE_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    -0.0,
    1e-320,
    1e308,
    2**31,
    2**63,
    2**64,
    10**400,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "\x00",
    "\u202e",
    "\ufeff",
    "\ud800",
    "ﬁ",
    "😀" * 50,
    "1",
    "null",
    "x" * 200,
    "x" * 201,
    [],
    [[]],
    [None],
    ["c1"] * 1_000,
    {},
    {"a": {"b": {}}},
    {"": ""},
]
_STRANGE_TIMES = [
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "2026-02-30T00:00:00Z",
    "2026-03-01T24:00:00Z",
    "2026-03-01T23:59:60Z",
    "2026-03-01T00:00:00",
    "2026-03-01T00:00:00.0000001Z",
    "2026-03-01 00:00:00Z",
    "2026-03-01T00:00:00+24:00",
    "2026-W09-7T00:00:00Z",
    "\u0662026-03-01T00:00:00Z",
    "today",
]
_FIELDS = {
    "login": {},
    "navigation": {"screen": "home"},
    "search": {"query": "deep sleep"},
    "content_start": {"play_id": "p1", "content_id": "c1", "category": "sleep"},
    "content_exit": {"play_id": "p1", "content_id": "c1", "category": "sleep", "position_seconds": 12.5},
    "content_complete": {"play_id": "p2", "content_id": "c2", "category": "focus", "position_seconds": 300},
    "biometric": {"heart_rate_bpm": 81.5, "steps": 40},
    "impression": {"recommendation_id": "r1", "kind": "today", "items": ["c1", "c2"], "surface": "home"},
}


class Fuzz:
    """Makes (partition key, payload) pairs around a moment; the same seed makes the same pairs."""

    def __init__(self, seed, moment, users=20):
        self._random, self._moment = random.Random(seed), moment
        self._users = [f"fuzz-{number}" for number in range(users)]
        self._makers = [
            self._noise,
            self._deep,
            self._huge,
            self._wrong_values,
            self._broken_text,
            self._other_encodings,
            self._damaged,
            self._damaged,
            self._stitched,
            self._valid,
            self._valid,
        ]
        self._last = None

    def pairs(self, count):
        return [self._pair() for _ in range(count)]

    def _pair(self):
        rng = self._random
        user = rng.choice(self._users)
        payload = rng.choice(self._makers)(user)
        if rng.random() < 0.03:
            user = rng.choice(["", "another", "😀" * 60, "a b", "k" * 256]) or "none"
        if self._last is not None and rng.random() < 0.05:
            return self._last
        self._last = (user, payload)
        return self._last

    def _document(self, user):
        rng = self._random
        kind = rng.choice(list(_FIELDS))
        ago = timedelta(
            seconds=rng.choice([0, 0, 1, 30, 400, 700, 2_000, 90_000, -50, -540]), milliseconds=rng.random()
        )
        return {
            "schema_version": 1,
            "event_id": str(uuid.UUID(int=rng.getrandbits(128))),
            "user_id": user,
            "type": kind,
            "event_timestamp": (self._moment - ago).isoformat(),
            "platform": "web",
            **_FIELDS[kind],
        }

    def _valid(self, user):
        return json.dumps(self._document(user)).encode()

    def _noise(self, user):
        return self._random.randbytes(self._random.randrange(1, 200))

    def _deep(self, user):
        depth = self._random.choice([10, 500, 1_023, 1_025, 20_000])
        opening, closing = self._random.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")])
        nested = opening * depth + b"1" + closing * (depth if self._random.random() < 0.7 else 0)
        if self._random.random() < 0.5:
            return self._valid(user)[:-1] + b', "query": ' + nested + b"}"
        return nested

    def _huge(self, user):
        size = self._random.choice([1_000, 50_000, 200_000])
        document = self._document(user)
        document[self._random.choice(list(document))] = self._random.choice("xé\\😀") * size
        return json.dumps(document, ensure_ascii=self._random.random() < 0.5).encode()

    def _wrong_values(self, user):
        rng, document = self._random, self._document(user)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            field = rng.choice([*document, "steps", "items", "unknown", "heart_rate_bpm"])
            document[field] = rng.choice(_STRANGE_TIMES if field == "event_timestamp" else _STRANGE_VALUES)
        return json.dumps(document).encode(errors="replace")

    def _broken_text(self, user):
        whole = self._valid(user)
        place = self._random.randrange(len(whole))
        broken = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\\ud800", b"\x00", b"\\"]
        return whole[:place] + self._random.choice(broken) + whole[place:]

    def _other_encodings(self, user):
        text = self._valid(user).decode()
        encoding = self._random.choice(["utf-16", "utf-32", "utf-8-sig", "base64"])
        return base64.b64encode(text.encode()) if encoding == "base64" else text.encode(encoding)

    def _damaged(self, user):
        rng, payload = self._random, bytearray(self._valid(user))
        for _ in range(rng.choice([1, 1, 2, 8])):
            place = rng.randrange(len(payload))
            what = rng.randrange(4)
            if what == 0:
                payload[place] ^= 1 << rng.randrange(8)
            elif what == 1:
                del payload[place : place + rng.choice([1, 1, 20])]
            elif what == 2:
                payload[place:place] = bytes([rng.choice(b'{}[]":,\\0e-')])
            else:
                payload = payload[: place + 1]
            payload = payload or bytearray(b"0")
        return bytes(payload)

    def _stitched(self, user):
        one, other = self._valid(user), self._valid(user)
        return self._random.choice(
            [
                one + other,
                b"[" + one + b"," + other + b"]",
                one[:-1] + b"," + other[1:],
                one + b"\n",
                b"\n" + one,
                one * 3,
            ]
        )
