"""Each view of a service is answered for its own entity, whatever it is called and however the rows are written."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.feature_server import get_app
from feast.types import Int64, String
from starlette.testclient import TestClient

from stillpoint.errors import InvalidInput, PlanRefused
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.feature_server.request import RequestParser
from stillpoint.stores.feature_server.response import to_response
from stillpoint.stores.materialize.sink import open_sink
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect

AT = datetime(2026, 3, 1, tzinfo=UTC)
USERS, ITEMS = range(1, 5), ["a", "b", "c"]

# Service → (view, its name there, its join key map). A map may name a join key after another entity, or swap two.
SERVICES: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    "target": [("about", "user", {}), ("about", "target_user", {"user_id": "target_user_id"})],
    "target_first": [("about", "target_user", {"user_id": "target_user_id"}), ("about", "user", {})],
    "named_as_an_entity": [("about", "me", {}), ("about", "other", {"user_id": "user"})],
    "named_as_an_entity_first": [("about", "other", {"user_id": "user"}), ("about", "me", {})],
    "three": [
        ("about", "a", {"user_id": "x"}),
        ("about", "b", {"user_id": "y"}),
        ("about", "c", {"user_id": "z"}),
    ],
    "mixed": [
        ("about", "me", {}),
        ("bought", "mine", {}),
        ("bought", "theirs", {"user_id": "target_user_id"}),
        ("bought", "both", {"user_id": "target_user_id", "item_id": "other_item"}),
    ],
    "swapped": [("met", "met", {}), ("met", "was_met", {"user_id": "friend_id", "friend_id": "user_id"})],
}
KEYS = {"about": ("user_id",), "wide": ("user_id",), "bought": ("user_id", "item_id"), "met": ("user_id", "friend_id")}


def told(view: str, *key: Any) -> str:
    return f"{view} of {' and '.join(map(str, key))}"


class World:
    """Views whose every value says whose it is."""

    def __init__(self, folder: Path, address: str) -> None:
        self.store = FeatureStore(
            config=RepoConfig(
                project="aliases",
                provider="local",
                registry=str(folder / "registry.pb"),
                online_store=StillpointOnlineStoreConfig(connection_string=address),
                entity_key_serialization_version=3,
            )
        )
        entities = {
            "user_id": Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64),
            "item_id": Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING),
            "friend_id": Entity(name="friend", join_keys=["friend_id"], value_type=ValueType.INT64),
        }
        source = FileSource(path="nowhere.parquet", timestamp_field="event_timestamp", name="rows")
        views = {
            name: FeatureView(
                name=name,
                entities=[entities[key] for key in keys],
                ttl=timedelta(days=1),
                schema=[Field(name=key, dtype=String if key == "item_id" else Int64) for key in keys]
                + [Field(name=feature, dtype=String) for feature in ("told", "more")],
                source=source,
            )
            for name, keys in KEYS.items()
        }
        services = [
            FeatureService(
                name=service,
                features=[
                    views[view][["told"]].with_name(name).with_join_key_map(names) for view, name, names in parts
                ],
            )
            for service, parts in SERVICES.items()
        ]
        self.store.apply([*entities.values(), *views.values(), *services])
        for name, keys in KEYS.items():
            rows = list(itertools.product(*(ITEMS if key == "item_id" else USERS for key in keys)))
            columns: dict[str, Any] = dict(zip(keys, zip(*rows, strict=True), strict=True))
            columns |= {feature: [told(name, *row) for row in rows] for feature in ("told", "more")}
            columns["event_timestamp"] = [AT] * len(rows)
            table = pa.table({key: pa.array(list(values)) for key, values in columns.items()})
            sink = open_sink(
                self.store.config, self.store._get_provider().online_store, self.store.get_feature_view(name)
            )
            sink(table)
        plan = compile_plan(self.store)
        self.parser, self.reader = RequestParser(plan), OnlineReader(connect(address), plan)

    async def awaited(self, service: str, rows: Any) -> Any:
        answer = await self.store.get_online_features_async(
            self.store.get_feature_service(service), rows, full_feature_names=True
        )
        await self.store._get_provider().online_store.close()
        return answer.to_dict()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> World:
    return World(tmp_path_factory.mktemp("aliases"), redis_server.connection_string)


def wanted(service: str, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {
        f"{name}__told": [told(view, *(row[names.get(key, key)] for key in KEYS[view])) for row in rows]
        for view, name, names in SERVICES[service]
    } | {key: [row[key] for row in rows] for key in rows[0]}


def rows_of(service: str) -> list[dict[str, Any]]:
    """Rows of which no two columns agree, with one row twice."""
    names = dict.fromkeys(names.get(key, key) for view, _, names in SERVICES[service] for key in KEYS[view])
    rows = [
        {
            name: ITEMS[(row + place) % len(ITEMS)] if "item" in name else USERS[(row + place) % len(USERS)]
            for place, name in enumerate(names)
        }
        for row in range(4)
    ]
    return [*rows, rows[1]]


@pytest.mark.parametrize("service", SERVICES)
def test_every_order_of_keys_answers_each_view_for_its_own_entity(world: World, service: str) -> None:
    rows = rows_of(service)
    found = world.store.get_feature_service(service)
    with TestClient(get_app(world.store)) as feast:
        for order in itertools.permutations(rows[0]):
            ordered = [{key: row[key] for key in order} for row in rows]
            ordered[2] = dict(reversed(ordered[2].items()))  # rows need not agree in their order
            columns = {key: [row[key] for row in rows] for key in order}
            expected = wanted(service, rows)
            assert world.store.get_online_features(found, ordered, full_feature_names=True).to_dict() == expected
            assert world.store.get_online_features(found, columns, full_feature_names=True).to_dict() == expected
            assert asyncio.run(world.awaited(service, ordered)) == expected
            body = {"feature_service": service, "entities": columns, "full_feature_names": True}
            assert by_name(feast.post("/get-online-features", json=body).json()) == expected
            parsed = world.parser.parse(orjson.loads(orjson.dumps(body)))
            read = world.reader.read(parsed.requested.read, parsed.entities, now_us=0, mode=Mode.COMPAT)
            assert by_name(to_response(parsed, read)) == expected
            assert read.to_dict(full_names=True) == expected


def by_name(response: dict[str, Any]) -> dict[str, Any]:
    names, results = response["metadata"]["feature_names"], response["results"]
    return {name: result["values"] for name, result in zip(names, results, strict=True)}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"user_id": 1, "target_user_id": 2}, {"user_id": 1}], "row 1 has the keys user_id"),
        ([{"user_id": 1}, {"target_user_id": 2}], "row 1 has the keys target_user_id, and row 0 has user_id"),
        ([{"user_id": 1}], "view target_user: join key target_user_id is missing; given were user_id"),
        ([{"target_user_id": 1}], "view user: join key user_id is missing; given were target_user_id"),
        ([{"user_id": None, "target_user_id": 2}], "view user: join key user_id of row 0 is null"),
        ([{"user_id": 1, "target_user_id": float("nan")}], "target_user: join key target_user_id of row 0 is null"),
        ([{"user_id": 1, "target_user_id": 2.5}], "join key target_user_id of row 0 is 2.5; expected INT64"),
        ([{"user_id": True, "target_user_id": 2}], "join key user_id of row 0 is true; expected INT64"),
        ([], "no row is given"),
        ({"user_id": [1, 2], "target_user_id": [1]}, "all columns need equally many values"),
    ],
)
def test_a_row_that_names_no_entity_is_refused_and_never_shifted(world: World, rows: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        world.store.get_online_features(world.store.get_feature_service("target"), rows, full_feature_names=True)
    with pytest.raises(InvalidInput, match=words):
        asyncio.run(world.awaited("target", rows))


def test_an_entitys_name_is_taken_for_its_join_key_unless_a_view_asks_for_it(world: World) -> None:
    answer = world.store.get_online_features(["about:told"], [{"user": 3}]).to_dict()
    assert answer == {"user_id": [3], "told": [told("about", 3)]}
    with pytest.raises(InvalidInput, match="view me: join key user_id is missing"):
        world.store.get_online_features(world.store.get_feature_service("named_as_an_entity"), [{"user": 3}], True)


def test_a_view_that_is_asked_by_two_maps_under_one_name_is_refused(world: World) -> None:
    view = world.store.get_feature_view("wide")
    service = FeatureService(
        name="two_maps", features=[view[["told"]], view[["more"]].with_join_key_map({"user_id": "target_user_id"})]
    )
    world.store.apply(service)
    with pytest.raises(PlanRefused, match=r"view wide is asked by the join keys .* give one of them a name of its own"):
        world.store.get_online_features(service, [{"user_id": 1, "target_user_id": 2}])
