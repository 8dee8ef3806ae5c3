"""Simulates how events arrive: delays, offline clients, hourly watches, fast clocks, copies, malformed payloads."""

from datetime import date
from typing import NamedTuple

import numpy as np
import orjson

from simulation.behaviour import KINDS, NOTHING, QUERIES, SCREENS, TYPES, Actions, ShownLists
from simulation.catalogue import CATEGORIES, Catalogue
from simulation.faults import Faults
from simulation.population import PLATFORMS, Population
from stillpoint.clock import HOUR, MINUTE, SECOND
from stillpoint.events.types import SCHEMA_VERSION, EventType


class Delivery(NamedTuple):
    """One record as Kinesis gets it: when it arrives (microseconds), its partition key and its bytes."""

    arrived_us: int
    partition_key: str
    payload: bytes


def deliver(
    actions: Actions,
    lists: ShownLists,
    population: Population,
    catalogue: Catalogue,
    faults: Faults,
    *,
    seed: int,
    day: date,
) -> list[Delivery]:
    """Return a day's records in order of arrival, the same for the same arguments."""
    rng = np.random.default_rng([seed, 4, day.toordinal()])
    habits = np.random.default_rng([seed, 5])
    hourly = habits.random(len(population)) < faults.hourly_watches
    fast = habits.random(len(population)) < faults.fast_clocks
    ahead = np.where(
        fast, np.where(habits.random(len(population)) < 0.25, 300, habits.uniform(20, 50, len(population))), 0.0
    )
    count = len(actions.user)
    arrived = actions.time_us + (rng.lognormal(-1.2, 0.6, count) * SECOND).astype(np.int64)
    watch = (actions.type == TYPES.index(EventType.BIOMETRIC)) & hourly[actions.user]
    arrived = np.where(watch, (arrived // HOUR + 1) * HOUR + rng.integers(0, SECOND, count), arrived)
    sessions = int(actions.session.max(initial=-1)) + 1
    offline = rng.random(sessions) < faults.offline_sessions
    reconnect = np.zeros(sessions, dtype=np.int64)
    np.maximum.at(reconnect, actions.session, actions.time_us)
    reconnect += (rng.uniform(5, 180, sessions) * MINUTE).astype(np.int64)
    held = offline[actions.session]
    arrived = np.where(held, reconnect[actions.session] + rng.integers(0, SECOND, count), arrived)
    late = rng.random(count) < faults.late
    arrived += np.where(late, (rng.uniform(11, 1800, count) * MINUTE).astype(np.int64), 0)
    claimed = actions.time_us + (ahead[actions.user] * SECOND).astype(np.int64)
    payloads = _payloads(rng, actions, lists, population, catalogue, claimed)
    broken = np.flatnonzero(rng.random(count) < faults.malformed)
    for place, way in zip(broken.tolist(), rng.integers(0, len(_WAYS), len(broken)).tolist(), strict=True):
        payloads[place] = _break(payloads[place], way)
    again = np.flatnonzero(rng.random(count) < faults.duplicates)
    source = np.concatenate([np.arange(count), again])
    times = np.concatenate([arrived, arrived[again] + rng.integers(SECOND, MINUTE, len(again))])
    order = np.lexsort((source, times))
    keys = population.user_ids[actions.user]
    return [
        Delivery(time, keys[place], payloads[place])
        for time, place in zip(times[order].tolist(), source[order].tolist(), strict=True)
    ]


def _payloads(
    rng: np.random.Generator,
    actions: Actions,
    lists: ShownLists,
    population: Population,
    catalogue: Catalogue,
    claimed: np.ndarray,
) -> list[bytes]:
    """Return each action as the JSON that a client sends."""
    count = len(actions.user)
    random = rng.bytes(16 * count).hex()
    stamps = np.datetime_as_string(claimed.astype("datetime64[us]"), unit="us").tolist()
    categories = [CATEGORIES[code].value for code in catalogue.category]
    platforms = [platform.value for platform in PLATFORMS]
    payloads = []
    columns = zip(
        stamps,
        actions.user.tolist(),
        actions.type.astype(np.int64).tolist(),
        actions.content.astype(np.int64).tolist(),
        actions.play.astype(np.int64).tolist(),
        actions.position.tolist(),
        actions.heart_rate.tolist(),
        actions.steps.astype(np.int64).tolist(),
        actions.text.astype(np.int64).tolist(),
        actions.list_row.astype(np.int64).tolist(),
        actions.recommendation.astype(np.int64).tolist(),
        strict=True,
    )
    for place, (stamp, user, code, content, play, position, pulse, steps, text, row, shown) in enumerate(columns):
        digits = random[32 * place : 32 * place + 32]
        kind = TYPES[code]
        document: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "event_id": f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}",
            "user_id": population.user_ids[user],
            "type": kind.value,
            "event_timestamp": f"{stamp}Z",
            "platform": platforms[population.platform[user]],
        }
        if content != NOTHING:
            document |= {
                "play_id": f"p{play}",
                "content_id": catalogue.content_ids[content],
                "category": categories[content],
            }
            if kind is EventType.CONTENT_START:
                document["recommendation_id"] = f"r{shown}"
            else:
                document["position_seconds"] = position
        elif kind is EventType.BIOMETRIC:
            document |= {"heart_rate_bpm": pulse, "steps": steps}
        elif kind is EventType.IMPRESSION:
            name = KINDS[lists.kind[row]].value
            document |= {
                "recommendation_id": f"r{shown}",
                "kind": name,
                "items": catalogue.content_ids[lists.items[row]].tolist(),
                "surface": "home" if name == "today" else "sleep_tab",
            }
        elif kind is EventType.SEARCH:
            document["query"] = QUERIES[text]
        elif kind is EventType.NAVIGATION:
            document["screen"] = SCREENS[text]
        payloads.append(orjson.dumps(document))
    return payloads


_WAYS = ("cut off", "no user", "unknown type", "no offset", "boolean position", "other version")


def _break(payload: bytes, way: int) -> bytes:
    document = orjson.loads(payload)
    match _WAYS[way]:
        case "cut off":
            return payload[:-7]
        case "no user":
            del document["user_id"]
        case "unknown type":
            document["type"] = "teleport"
        case "no offset":
            document["event_timestamp"] = document["event_timestamp"].removesuffix("Z")
        case "boolean position":
            document |= {"type": "content_exit", "play_id": "p1", "content_id": "c0000", "category": "sleep"}
            document["position_seconds"] = True
        case _:
            document["schema_version"] = 99
    return orjson.dumps(document)
