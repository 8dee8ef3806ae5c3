"""A public click log becomes the shop's events: with or without a header, in columns or JSON, in the order of its times."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestion.click_log import as_time, rows_as_events
from ingestion.publish import judge, read_lines
from ingestion.recorded_history import load_history
from stillpoint.app.load import load_app
from stillpoint.cli import run
from stillpoint.errors import InvalidInput
from stillpoint.events.parsing import PayloadParser
from stillpoint.events.recorded import event_columns
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake

SHOP = load_app(str(Path(__file__).parents[3] / "examples" / "shop"))
PARSER = PayloadParser(SHOP.events)
NOW = datetime(2026, 1, 2, tzinfo=UTC)

WITH_HEADER = """timestamp,visitorid,event,itemid,transactionid
1433221999827,111016,addtocart,318965,
1433221332117,257597,view,355908,
1433222162373,599528,transaction,356475,4000
"""
WITHOUT = """1,2014-04-07T10:51:09.277Z,214536502,view
1,2014-04-07T10:54:09.868Z,214536500,cart
2,2014-04-07T13:56:37.614Z,214662742,buy
"""
AS_JSON = (
    json.dumps({"session": 7, "events": [{"aid": 59625, "ts": 1661724000278, "type": "clicks"}, {"aid": 1, "ts": 1661724000279, "type": "orders"}]})
    + "\n"
    + json.dumps({"session": 8, "events": [{"aid": 2, "ts": 1661724000000, "type": "carts"}]})
    + "\n"
)  # fmt: skip
WITH_PRICES = """event_time;event_type;product_id;category_code;price;user_id
2019-10-01 00:00:00 UTC;view;44600062;appliances.kitchen;35.79;541312140
2019-10-01 00:00:05 UTC;purchase;44600062;;35;541312140
"""


def judged(tmp_path, text, pack=bytes):
    file = tmp_path / "log"
    file.write_bytes(pack(text.encode()))
    return judge(rows_as_events(read_lines(file), SHOP.log("clicks")), PARSER, now=NOW, rebase=False)


def shown(found):
    events = [PARSER.parse(line.payload, 2**62).arrival for line in found.events]
    return [(one.user_id, one.type, one.event.product_id, one.event.event_timestamp[11:19]) for one in events]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("text", "events"),
    [
        (
            WITH_HEADER,
            [
                ("257597", "view", "355908", "05:02:12"),
                ("111016", "cart", "318965", "05:13:19"),
                ("599528", "purchase", "356475", "05:16:02"),
            ],
        ),
        (
            WITHOUT,
            [
                ("1", "view", "214536502", "10:51:09"),
                ("1", "cart", "214536500", "10:54:09"),
                ("2", "purchase", "214662742", "13:56:37"),
            ],
        ),
        (
            AS_JSON,
            [
                ("8", "cart", "2", "22:00:00"),
                ("7", "view", "59625", "22:00:00"),
                ("7", "purchase", "1", "22:00:00"),
            ],
        ),
        (
            WITH_PRICES,
            [("541312140", "view", "44600062", "00:00:00"), ("541312140", "purchase", "44600062", "00:00:05")],
        ),
    ],
    ids=["header", "places", "json", "prices"],
)
def test_each_shape_of_a_log_gives_its_events_in_the_order_of_their_times(tmp_path, text, events, pack):
    found = judged(tmp_path, text, pack)
    assert (found.refused, shown(found)) == ((), events)


def test_numbers_are_numbers_and_what_a_log_lacks_is_what_the_declaration_says(tmp_path):
    _, bought = (PARSER.parse(line.payload, 2**62).arrival.event for line in judged(tmp_path, WITH_PRICES).events)
    assert (bought.price, bought.quantity, bought.category) == (35.0, 1, "unknown")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,2014-04-07T10:51:09Z,9,wish", "line 2: type: text 'wish'; expected one of view, cart, purchase"),
        ("1,2014-04-07 10:51:09,9,view", "line 2: event_timestamp: text '2014-04-07 10:51:09'; expected RFC 3339"),
        ("1,12345,9,view", "line 2: event_timestamp: text '12345'; expected RFC 3339"),
        (",1661724000278,9,view", "line 2: user_id: missing"),
        ("1,1661724000278,,view", "line 2: product_id: missing"),
        ("1", "line 2: type: missing"),
        ('{"session": 1, "events"', "line 2: type: missing"),
        ("a b,1661724000278,9,view", "line 2: user_id: text 'a b'"),
    ],
)
def test_a_row_that_is_no_event_is_refused_by_its_line_and_keeps_no_other_back(tmp_path, row, reason):
    found = judged(tmp_path, f"session_id,timestamp,item_id,event_type\n{row}\n5,1661724000278,9,view\n")
    assert [line.number for line in found.events] == [3]
    assert [one.sentence().startswith(reason) for one in found.refused] == [True], found.refused[0].sentence()


def test_a_header_without_a_column_that_every_event_needs_is_refused_with_the_names_that_would_do(tmp_path):
    with pytest.raises(InvalidInput, match=r"no column of the event type: found session_id, ts, item; expected one of"):
        judged(tmp_path, "session_id,ts,item\n1,1661724000278,9\n")


def test_equal_rows_are_events_of_their_own_and_a_file_read_twice_gives_the_same_ids(tmp_path):
    row = "1,1661724000278,9,view\n"
    once, twice = judged(tmp_path, row + row), judged(tmp_path, row + row)
    assert once == twice
    assert len({json.loads(line.payload)["event_id"] for line in once.events}) == 2


def test_a_time_is_seconds_milliseconds_or_microseconds_by_its_length():
    assert len({as_time(one) for one in (1433221332, "1433221332000", 1433221332000000, "1433221332.0")}) == 1
    assert as_time("1433221332.117") == "2015-06-02T05:02:12.117000+00:00"


def test_an_old_log_becomes_history_once_and_its_events_are_on_time(tmp_path):
    lake = Lake(LocalObjects(tmp_path / "lake"), SHOP.features, event_columns(SHOP.events))
    lines = judged(tmp_path, WITH_HEADER + WITH_HEADER.splitlines()[1] + "\n").events
    assert load_history(lake, lines, PARSER, at=NOW) == {"on_time": 4}
    assert not load_history(lake, lines, PARSER, at=NOW)
    rows = lake.read("events")
    assert rows.num_rows == 4
    assert rows["product_id"].to_pylist().count("318965") == 2
    assert rows.schema == event_columns(SHOP.events)


def test_the_command_reads_a_log_by_the_name_of_its_format(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STILLPOINT_APP", str(SHOP.folder))
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    file = tmp_path / "events.csv"
    file.write_text(WITH_HEADER)
    assert run(["events", "publish", "--format", "clicks", "--history", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["history"] == {"on_time": 3}
    assert run(["events", "publish", "--format", "orders", str(file)]) == 2
    assert "declares no log format 'orders'; it declares clicks" in capsys.readouterr().err
