"""Measures how long it takes to read a million payloads: by hand, by the app's parser, by pydantic.

    python benchmarks/payloads.py [--payloads N] [--rounds N]

The event types are those of the golden file. `by hand` is `stillpoint.events.parsing`, the floor; `the app's parser` gives
typed events with their times and ids, as the engine takes them; `pydantic` only validates, which is its best case.
Seconds are the processor's, and the cheapest round counts. Prints a table and writes JSON; asserts nothing.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from _results import keep
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from stillpoint.app.events import EVENT_ID_PATTERN, TIMESTAMP_PATTERN, USER_ID_PATTERN, Event, Meta
from stillpoint.app.payloads import PayloadParser
from stillpoint.events.parsing import parse

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "events_v1.jsonl"
ARRIVED_US = 2_000_000_000_000_000
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Category = Literal["sleep", "focus", "move", "meditate", "stress", "music"]


class Login(Event): ...


class SubscriptionRenewed(Event): ...


class Navigation(Event):
    screen: Name


class Search(Event):
    query: Annotated[str, Meta(min_length=1, max_length=200)]


class Content(Event):
    play_id: Name
    content_id: Name
    category: Category


class ContentStart(Content):
    recommendation_id: Name | None = None


class Placed(Content):
    position_seconds: Annotated[float, Meta(ge=0)]


class ContentPause(Placed): ...


class ContentExit(Placed): ...


class ContentComplete(Placed): ...


class Biometric(Event, any_of=("heart_rate_bpm", "steps")):
    heart_rate_bpm: Annotated[float, Meta(ge=25, le=250)] | None = None
    steps: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Impression(Event, lake_only=True):
    recommendation_id: Name
    kind: Literal["today", "sleep", "next"]
    items: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=200)]
    surface: Name


def pydantic_adapter() -> TypeAdapter[Any]:
    """Return a discriminated union of strict models of the same types."""
    name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
    like = {name: name.removesuffix(r"\Z") + "$" for name in (EVENT_ID_PATTERN, USER_ID_PATTERN, TIMESTAMP_PATTERN)}
    text = {name: Annotated[str, StringConstraints(pattern=pattern)] for name, pattern in like.items()}
    base: dict[str, Any] = {
        "schema_version": Literal[1],
        "event_id": text[EVENT_ID_PATTERN],
        "user_id": text[USER_ID_PATTERN],
        "event_timestamp": text[TIMESTAMP_PATTERN],
        "platform": Literal["ios", "android", "web"],
    }
    content = {"play_id": name, "content_id": name, "category": Category}
    placed = content | {"position_seconds": Annotated[float, Field(ge=0)]}
    own: dict[str, dict[str, Any]] = {
        "login": {},
        "subscription_renewed": {},
        "navigation": {"screen": name},
        "search": {"query": Annotated[str, StringConstraints(min_length=1, max_length=200)]},
        "content_start": content | {"recommendation_id": name | None},
        "content_pause": placed,
        "content_exit": placed,
        "content_complete": placed,
        "biometric": {
            "heart_rate_bpm": Annotated[float, Field(ge=25, le=250)] | None,
            "steps": Annotated[int, Field(ge=0)] | None,
        },
        "impression": {"recommendation_id": name, "kind": str, "items": list[name], "surface": name},  # type: ignore[valid-type]
    }
    models = []
    for kind, fields in own.items():
        annotations = {**base, "type": Literal[kind], **fields}
        optional = {field: None for field in ("recommendation_id", "heart_rate_bpm", "steps") if kind != "impression" and field in fields}  # fmt: skip
        body = {"__annotations__": annotations, "model_config": ConfigDict(strict=True, frozen=True), "__module__": __name__}  # fmt: skip
        models.append(type(kind, (BaseModel,), {**body, **optional}))
    union: Any = models[0]
    for model in models[1:]:
        union = union | model
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--payloads", type=int, default=200_000)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    lines = GOLDEN.read_bytes().splitlines()
    chosen = random.Random(1).choices(lines, k=asked.payloads)
    parser = PayloadParser(
        [leaf for kind in Event.__subclasses__() if kind.__module__ == __name__ for leaf in kind.leaves]
    )
    adapter = pydantic_adapter()
    ways: dict[str, Callable[[bytes], object]] = {
        "by hand": lambda payload: parse(payload, ARRIVED_US),
        "the app's parser": lambda payload: parser.parse(payload, ARRIVED_US),
        "pydantic, validation alone": adapter.validate_json,
    }
    best: dict[str, float] = {}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            started = time.process_time()
            for payload in chosen:
                way(payload)
            spent = (time.process_time() - started) / len(chosen) * 1e6
            best[name] = min(spent, best.get(name, spent))
    for name, micros in best.items():
        print(f"{name:<28} {micros:6.2f} s per million   {best['by hand'] / micros:5.2f} × by hand")
    keep({"seconds_per_million": best})


if __name__ == "__main__":
    main()
