"""Bad input to the offline store is refused in a sentence that helps."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillpoint.errors import InvalidInput, InvalidSpine
from tests.support.plays import ROWS, USER, ask, at, plays_view, source_table, spine


class TestBadInput:
    def test_a_time_without_a_zone_is_refused(self, plays):
        frame = spine([("u1", at(0.5))])
        frame["event_timestamp"] = frame["event_timestamp"].dt.tz_localize(None)
        with pytest.raises(InvalidSpine, match=r"'event_timestamp' has no time zone .*tz_localize"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"])

    def test_one_naive_time_among_others_is_refused_by_its_row(self, plays):
        times = pd.Series([at(0.5), at(1).replace(tzinfo=None)], dtype=object)
        frame = pd.DataFrame({"user_id": ["u1", "u1"], "event_timestamp": times})
        with pytest.raises(InvalidSpine, match="row 1 is 2026-03-01 01:00:00"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"])

    def test_a_missing_join_key_is_named_with_its_view(self, plays):
        frame = spine([("u1", at(0.5))]).rename(columns={"user_id": "member"})
        with pytest.raises(InvalidSpine, match=r"no column 'user_id', a join key of view 'plays_view'.*member"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()

    def test_an_unknown_feature_is_named(self, plays):
        with pytest.raises(Exception, match="nonsense"):
            plays.get_historical_features(entity_df=spine([("u1", at(0))]), features=["plays_view:nonsense"])

    def test_a_key_of_the_wrong_type_is_refused(self, plays):
        frame = spine([("u1", at(0.5))]).assign(user_id=[1])
        with pytest.raises(InvalidSpine, match=r"'user_id' of view 'plays_view': the spine holds Int64"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()

    def test_a_null_time_is_refused_by_its_row(self, plays):
        frame = spine([("u1", at(0.5)), ("u1", None)])
        with pytest.raises(InvalidSpine, match="null in row 1"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"])

    def test_text_in_a_column_declared_as_numbers_is_refused(self, tmp_path, open_store):
        table = source_table(ROWS)
        table = table.set_column(3, "plays", pa.array(["many"] * 4))
        pq.write_table(table, tmp_path / "text.parquet")
        store = open_store()
        store.apply([USER, plays_view(tmp_path / "text.parquet")])
        with pytest.raises(InvalidInput, match=r"view 'plays_view', feature 'plays' is declared Int64.*string"):
            ask(store, [("u1", at(0.5))]).to_arrow()

    def test_a_missing_source_is_named(self, tmp_path, open_store):
        store = open_store()
        store.apply([USER, plays_view(tmp_path / "absent.parquet")])
        with pytest.raises(InvalidInput, match=r"no file or folder at .*absent\.parquet"):
            ask(store, [("u1", at(0.5))]).to_arrow()

    def test_a_feature_whose_name_the_spine_uses_is_refused(self, plays):
        frame = spine([("u1", at(0.5))]).assign(plays=[1])
        with pytest.raises(InvalidSpine, match="already a column of the spine"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()
