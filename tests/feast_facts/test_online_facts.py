"""What we rely on in the installed Feast's online side: each test fails the day Feast changes it."""

import inspect
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from feast import FeatureStore
from feast.infra.online_stores import online_store, redis
from feast.infra.online_stores.helpers import _mmh3, _redis_key, get_online_store_from_config
from feast.infra.passthrough_provider import PassthroughProvider
from feast.protos.feast.types import Value_pb2
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType as FeastValueType

from stillpoint.stores.online import StillpointOnlineStore, StillpointOnlineStoreConfig
from stillpoint.stores.redis.layout import feature_field, key_prefix, parse_key
from stillpoint.stores.values.types import FIELD_NUMBERS, ValueType


def test_every_value_type_of_feast_is_known_here() -> None:
    left_out = {"UNKNOWN", "NULL"}
    assert {item.name for item in FeastValueType} - left_out == {str(item) for item in ValueType}


def test_every_field_of_a_value_has_the_number_we_write() -> None:
    ours = set(FIELD_NUMBERS.values())
    theirs = {item.number for item in Value_pb2.Value.DESCRIPTOR.fields if item.name != "null_val"}
    assert ours == theirs


def test_keys_and_fields_are_feasts() -> None:
    key = _redis_key("proj", EntityKey(join_keys=["b", "a"], entity_values=[Value(int64_val=1), Value(string_val="x")]))
    assert key.startswith(key_prefix(["b", "a"]))
    parsed = parse_key(key)
    assert parsed is not None
    assert (parsed[0], parsed[2]) == (("a", "b"), b"proj")
    assert _mmh3("v:f") == feature_field("v", "f")


def test_the_yaml_name_of_the_config_class_leads_to_the_store() -> None:
    assert isinstance(get_online_store_from_config(StillpointOnlineStoreConfig()), StillpointOnlineStore)


def test_feast_reads_through_the_methods_that_we_override() -> None:
    for name in ("get_online_features", "get_online_features_async"):
        theirs = inspect.signature(getattr(online_store.OnlineStore, name))
        assert list(inspect.signature(getattr(StillpointOnlineStore, name)).parameters) == list(theirs.parameters)
        assert f"self.online_store.{name}(" in inspect.getsource(PassthroughProvider)


def test_feasts_redis_never_says_not_found_and_gives_time_zero() -> None:
    store = redis.RedisOnlineStore()
    when, values = store._get_features_for_entity([None, None], "v", ["f", "_ts:v"])
    assert when == datetime(1970, 1, 1, tzinfo=UTC)
    assert values == {"f": Value()}


def test_feasts_deletion_matches_any_project_with_the_same_ending() -> None:
    assert 'b"".join([prefix, b"*", config.project.encode("utf8")])' in inspect.getsource(redis.RedisOnlineStore)


def test_feast_ignores_the_created_time_online() -> None:
    source = inspect.getsource(redis.RedisOnlineStore.online_write_batch)
    assert "for entity_key, values, timestamp, _ in data" in source
    assert "new_total_nanos <= latest_seen_nanos" in source


def test_a_yaml_names_the_store_by_its_class_path(tmp_path: Path) -> None:
    yaml = tmp_path / "feature_store.yaml"
    yaml.write_text(
        f"project: named\nprovider: local\nregistry: {tmp_path}/registry.pb\nentity_key_serialization_version: 3\n"
        "online_store:\n  type: stillpoint.stores.online.StillpointOnlineStore\n"
        "  connection_string: 127.0.0.1:1,db=0\n  redis_type: redis_cluster\n  key_ttl_seconds: 60\n"
    )
    store = FeatureStore(fs_yaml_file=yaml)
    assert isinstance(store._get_provider().online_store, StillpointOnlineStore)
    assert store.config.online_store.redis_type == "redis_cluster"


def test_the_feast_free_modules_import_without_feast() -> None:
    program = (
        "import sys; import stillpoint.stores.reading.reader, stillpoint.stores.redis.writer, stillpoint.stores.feature_server.response, "
        "stillpoint.stores.redis.deletion; assert 'feast' not in sys.modules, 'feast was imported'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
