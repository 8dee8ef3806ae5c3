"""Requests to the feature server are read as they were meant, also those that were asked before."""

from typing import Any

import pytest

from stillpoint.errors import InvalidInput
from stillpoint.stores.feature_server.request import RequestParser
from stillpoint.stores.feature_server.response import to_response
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.query import compile_query
from stillpoint.stores.reading.replies import GroupReplies
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.values.types import ValueType

KEY = (Column("user_id", ValueType.INT64),)
VIEWS = tuple(ViewLayout(name, KEY, (Column("count", ValueType.INT64),), None) for name in ("clicks", "visits"))
BOTH = ["clicks:count", "visits:count"]


@pytest.fixture
def parser() -> RequestParser:
    return RequestParser(ReadPlan("demo", VIEWS))


def body(*keys: Any, full_names: bool = True) -> dict[str, Any]:
    return {"features": BOTH, "entities": {"user_id": list(keys)}, "full_feature_names": full_names}


def test_whole_number_keys_keep_all_their_digits(parser: RequestParser) -> None:
    given = [2**53 + 1, 2**63 - 1, -(2**63), "7", 7.0]
    assert parser.parse(body(*given)).entities == {"user_id": [2**53 + 1, 2**63 - 1, -(2**63), 7, 7]}


@pytest.mark.parametrize("key", [7.5, True, float("inf"), float("nan"), "seven", [7]])
def test_what_is_no_whole_number_is_no_whole_number_key(parser: RequestParser, key: Any) -> None:
    with pytest.raises(InvalidInput, match=r"entities\.user_id: a value is not of type INT64"):
        parser.parse(body(key))


def test_features_of_one_name_need_full_names_however_often_they_are_asked(parser: RequestParser) -> None:
    for _ in range(2):
        assert parser.parse(body(1)).requested.read == parser.parse(body(2)).requested.read
        with pytest.raises(InvalidInput, match="count is in clicks and in visits; set full_feature_names to true"):
            parser.parse(body(1, full_names=False))


def test_a_feature_that_is_called_as_another_ones_full_name_is_shown_too() -> None:
    views = tuple(
        ViewLayout(view, KEY, (Column(feature, ValueType.INT64),), None)
        for view, feature in (("a", "b"), ("c", "a__b"))
    )
    plan = ReadPlan("demo", views)
    asked = {"features": ["a:b", "c:a__b"], "entities": {"user_id": [1]}, "full_feature_names": True}
    request = RequestParser(plan).parse(asked)
    query = compile_query(plan, request.requested.selections, created=False)
    stored = [b"\x20\x05", b"\x20\x07", b"", b""]  # two INT64, no times
    fetched = GroupReplies(query.groups[0], [b"key"], None, stored, 0, Mode.COMPAT)
    columns = OnlineColumns(query, {"user_id": [1]}, 1, [fetched], fill_marker=None, now_us=0, mode=Mode.COMPAT)
    answer = to_response(request, columns)
    assert answer["metadata"]["feature_names"] == ["user_id", "a__b", "c__a__b"]
    assert [result["values"] for result in answer["results"]] == [[1], [5], [7]]


def test_ever_new_lists_of_features_do_not_fill_the_memory() -> None:
    features = tuple(Column(f"f{n}", ValueType.INT64) for n in range(60))
    parser = RequestParser(ReadPlan("demo", (ViewLayout("wide", KEY, features, None),)))
    for first in range(60):
        for second in range(60):
            asked = [f"wide:f{first}", f"wide:f{second}"] if first != second else [f"wide:f{first}"]
            parser.parse({"features": asked, "entities": {"user_id": [1]}})
    assert len(parser._requested) <= 1024
