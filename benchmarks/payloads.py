"""Measures how long it takes to read a million payloads: by the app's parser, by msgspec and pydantic alone.

    python benchmarks/payloads.py [--payloads N] [--rounds N]

The events are those of the golden file. `the app's parser` gives typed events with their times and ids, as the engine takes
them; `msgspec` only decodes and `pydantic` only validates, which is their best case.
Seconds are the processor's, and the cheapest round counts. Prints a table and writes JSON; asserts nothing.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import _of_tests  # noqa: F401
import msgspec
from _results import keep
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from stillpoint.app.events import EVENT_ID_PATTERN, TIMESTAMP_PATTERN, USER_ID_PATTERN
from stillpoint.app.load import load_app
from stillpoint.events.parsing import PayloadParser

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "events_v1.jsonl"
ARRIVED_US = 2_000_000_000_000_000
Category = Literal["sleep", "focus", "move", "meditate", "stress", "music"]


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
    events = load_app("feature_repo").events
    parser, decoder = PayloadParser(events), msgspec.json.Decoder(Union[events])  # noqa: UP007  made at run time
    adapter = pydantic_adapter()
    ways: dict[str, Callable[[bytes], object]] = {
        "the app's parser": lambda payload: parser.parse(payload, ARRIVED_US),
        "msgspec, decoding alone": decoder.decode,
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
    ours = next(iter(best.values()))
    for name, micros in best.items():
        print(f"{name:<28} {micros:6.2f} s per million   {micros / ours:5.2f} of the app's parser")
    keep({"seconds_per_million": best})


if __name__ == "__main__":
    main()
