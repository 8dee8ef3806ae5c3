"""The view `biometrics`: pulse and steps of the last ten minutes, and whether both rise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from stillpoint.app import CustomView, minutes, user
from stillpoint.app.events import Arrival
from stillpoint.app.records import Feature
from stillpoint.dtypes import DType
from stillpoint.features.streamed.definition import Key, Row

from . import _samples as biometrics
from .events import Biometric

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder


class Samples:
    """The samples of ten minutes, summed exactly."""

    def __init__(self, encoder: "Encoder | None" = None) -> None: ...

    def rows(
        self, key: Key, part: list[biometrics.Sample], fresh: Sequence[Arrival]
    ) -> tuple[list[Row], list[biometrics.Sample]]:
        since_us = min(arrival.arrived_us for arrival in fresh) - 1
        merged = sorted([*part, *map(_sample, fresh)], key=lambda one: one[:2])
        return biometrics.rows(key[0], merged, since_us=since_us), merged

    def turned(self, part: list[biometrics.Sample], moments_us: set[int]) -> dict[str, set[int]]:
        return {"exertion_rising": biometrics.turns_true(part, moments_us)}

    def keep(self, part: list[biometrics.Sample], floor_us: int) -> list[biometrics.Sample]:
        return biometrics.keep(part, floor_us)

    def reach_us(self, part: list[biometrics.Sample]) -> int:
        return (part[-1].event_us if part else 0) + biometrics.WINDOW_US + 1

    def pack(self, part: list[biometrics.Sample]) -> bytes:
        base = part[0].event_us if part else 0
        return msgspec.msgpack.encode((base, [(s[0] - base, s[1] - base, s[2], s[3]) for s in part]))

    def unpack(self, data: bytes) -> list[biometrics.Sample]:
        if not data:
            return []
        base, short = msgspec.msgpack.decode(data)
        return [biometrics.Sample(base + us, base + arrived, rate, steps) for us, arrived, rate, steps in short]


def _sample(arrival: Arrival) -> biometrics.Sample:
    event = arrival.event
    assert isinstance(event, Biometric)
    return biometrics.Sample(arrival.event_us, arrival.arrived_us, event.heart_rate_bpm, event.steps)


class Biometrics(CustomView):
    """Pulse and steps of the last ten minutes, and whether both rise."""

    entity, ttl, on, makes = user, minutes(15), (Biometric,), Samples
    described = (
        Feature(
            name="heart_rate_mean_10m",
            dtype=DType.FLOAT64,
            unit="bpm",
            minimum=25,
            maximum=250,
            null_when="no heart rate in the window",
            description="Mean heart rate.",
        ),
        Feature(
            name="heart_rate_slope_10m",
            dtype=DType.FLOAT64,
            unit="bpm per minute",
            null_when="fewer than two distinct times with a heart rate",
            description="Least-squares slope of the heart rate over time.",
        ),
        Feature(
            name="steps_sum_10m",
            dtype=DType.INT64,
            unit="steps",
            minimum=0,
            null_when="no sample in the window carries steps",
            description="Steps taken.",
        ),
        Feature(
            name="steps_trend_10m",
            dtype=DType.INT64,
            unit="steps",
            null_when="no sample in the window carries steps",
            description="Steps of the newer half of the window minus those of the older half.",
        ),
        Feature(
            name="exertion_rising",
            dtype=DType.BOOL,
            unit="flag",
            null_when="slope or trend is null",
            description="Slope of at least 1 bpm per minute and a trend of at least 20 steps.",
        ),
    )
