"""Every fault of an app is named at once, in one sentence, with its file and line."""

import itertools
import textwrap

import pytest

from stillpoint.app.checks import owned
from stillpoint.app.load import InvalidApp, load_app

NUMBERS = itertools.count()
EVENTS = """
from stillpoint.app import *

class Start(Event):
    content_id: str
    category: str
    seconds: Annotated[float, Meta(ge=0)] | None = None

class Search(Event):
    query: str

class Shown(Event, lake_only=True):
    content_id: str
"""


def app(tmp_path, **files):
    folder = tmp_path / f"app_{next(NUMBERS)}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "events.py").write_text(EVENTS)
    for name, text in files.items():
        head = f"from {folder.name}.events import *\n"
        (folder / f"{name}.py").write_text(head + textwrap.dedent(text))
    return folder


def faults(folder):
    with pytest.raises(InvalidApp) as raised:
        load_app(str(folder))
    return [(fault.place.file.rsplit("/", 1)[1], fault.place.line, fault.text) for fault in raised.value.faults]


VIEW = """
class Listening(StreamView):
    "What was played."
    entity, ttl = user, hours(2)
    {line}
"""

LINES = {
    'starts = count(Start, where=Search.query == "a", over=hours(1))': (
        "feature listening.starts: the filter looks at Search.query, and event type start has no field query"
    ),
    "starts = count(Start, where=Start.seconds == 'a', over=hours(1))": (
        "feature listening.starts: the filter compares start.seconds with 'a', which it can never be"
    ),
    "starts = first(Start.category, over=hours(1), default=1.5)": (
        "feature listening.starts: the value without events is 1.5, which a feature of type String cannot hold"
    ),
    "starts = count(Start, where=True, over=hours(1))": (
        "feature listening.starts: the filter is True; "
        "expected a condition such as Search.query == 'x', joined with & and |"
    ),
    "starts = count(Start, over=sliding(hours(1), step=minutes(7)))": (
        "feature listening.starts: a window of 1h is no whole number of steps of 7m"
    ),
    "starts = count(Start, over=days(400))": (
        "feature listening.starts: a window of 400d; expected a positive length up to 366 days"
    ),
    "middle = mean(Search.query, over=hours(1))": (
        "feature listening.middle: mean over search.query, which is text; expected integer or number"
    ),
    "shown = count(Shown, over=hours(1))": (
        "feature listening.shown: event type shown is only stored; expected one that features may use"
    ),
    "every = count(Event, over=hours(1))": (
        "view listening: every is over every event; expected event types of the app"
    ),
    "text = last('query', over=hours(1))": (
        "view listening: text is over 'query'; expected an event type or a field such as Search.query"
    ),
    "odd = count(Start, over=10)": (
        "view listening: odd is over (10,); expected a length such as hours(1), or a window"
    ),
    "rise = newer_minus_older(Start.seconds, over=session(minutes(30)))": (
        "feature listening.rise: newer_minus_older over a session; expected a length of time"
    ),
    "own_ = own(lambda events, at_us: 1 / len(events), Start, gives=DType.FLOAT64, over=hours(1))": (
        "feature listening.own_: its function raises ZeroDivisionError for 0 events: division by zero"
    ),
    "own_ = own(lambda events, at_us: float('nan'), Start, gives=DType.FLOAT64, over=hours(1))": (
        "feature listening.own_: its function gives nan; expected a finite number, or None where there is none"
    ),
    "own_ = own(lambda events, at_us: 'a', Start, gives=DType.FLOAT64, over=hours(1))": (
        "feature listening.own_: its function gives 'a'; expected Float64 or None"
    ),
    "own_ = own(lambda events, at_us, seen=[]: seen.append(1) or len(seen), Start, gives=DType.INT64, over=hours(1))": (
        "feature listening.own_: its function gives 1, and then 2 for the same events; expected a pure function"
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_a_fault_of_a_feature_is_told_with_its_line(tmp_path, line):
    assert faults(app(tmp_path, views=VIEW.format(line=line))) == [("views.py", 6, LINES[line])]


def test_a_slow_function_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(owned, "_SECONDS", 0.01)
    line = "own_ = own(lambda e, at_us: __import__('time').sleep(0.02), Start, gives=DType.INT64, over=hours(1))"
    found = faults(app(tmp_path, views=VIEW.format(line=line)))
    assert [text for _, _, text in found] == [
        "feature listening.own_: its function takes over 0.01 s for 0 events; expected far less than a millisecond"
    ]


def test_an_entity_that_an_event_of_the_view_lacks_is_told(tmp_path):
    text = """
    class Trending(StreamView):
        "What is asked for."
        entity, ttl = Entity("content"), hours(2)
        searches = count(Search, over=hours(1))
        starts = count(Start, over=seconds(90))
        rise = newer_minus_older(Start.seconds, over=minutes(5))
    """
    assert faults(app(tmp_path, views=text)) == [
        (
            "views.py",
            6,
            "feature trending.searches: event type search has no content_id, by which entity content is known",
        ),
        ("views.py", 7, "feature trending.starts: 90s is no whole number of the view's row step of 1m"),
        ("views.py", 8, "feature trending.rise: half of 5m is no whole number of the view's row step of 1m"),
    ]


def test_what_could_depend_on_the_order_of_users_is_told(tmp_path):
    text = """
    class Trending(StreamView):
        "What is asked for."
        entity, ttl = Entity("content"), hours(2)
        odd = own(lambda events, at_us: len(events), Start, gives=DType.INT64, over=hours(1))
    """
    told = (
        "feature trending.odd: a function of one's own over entity content, whose events come in no order; "
        "expected an entity with user_id"
    )
    assert faults(app(tmp_path, views=text)) == [("views.py", 6, told)]


def test_a_user_as_the_value_of_a_contents_feature_is_told(tmp_path):
    text = """
    class Trending(StreamView):
        "What is asked for."
        entity, ttl = Entity("content"), hours(2)
        listeners = count_distinct(Start.user_id, over=hours(1))
    """
    told = (
        "feature trending.listeners: user_id as the value of a feature of entity content: an erasure could not take a user "
        "out of it; expected a field that names no user"
    )
    assert faults(app(tmp_path, views=text)) == [("views.py", 6, told)]


def test_two_features_of_one_name_are_told_across_views(tmp_path):
    text = VIEW.format(line="starts = count(Start, over=[hours(1)])") + VIEW.replace("Listening", "Other").format(
        line="starts_1h = count(Search, over=hours(1))"
    )
    assert faults(app(tmp_path, views=text)) == [
        ("views.py", 11, "feature other.starts_1h has the name of feature listening.starts_1h; rename one")
    ]


def test_a_daily_feature_that_has_the_name_of_a_streamed_one_is_told(tmp_path):
    daily = """
from stillpoint.app.tables import column, daily_view
from stillpoint.dtypes import DType

@daily_view(
    user,
    column("starts_1h", DType.INT64, unit="plays", description="Plays."),
    events=(Start,),
    reaches=days(7),
)
def habits(day):
    "What the user does."
"""
    folder = app(tmp_path, views=VIEW.format(line="starts = count(Start, over=[hours(1)])"), z_daily=daily)
    ((file, _, text),) = faults(folder)
    assert (file, text) == (
        "z_daily.py",
        "feature habits.starts_1h has the name of one of listening; rename one",
    )


def test_a_circle_of_request_time_features_is_told(tmp_path):
    text = """
    from stillpoint.app.recommendations import *
    a = RequestTimeFeature(name="a", inputs=("b",), compute=len, unit="x", description="x")
    b = RequestTimeFeature(name="b", inputs=("a",), compute=len, unit="x", description="x")
    c = RequestTimeFeature(name="c", inputs=("nothing",), compute=len, unit="x", description="x")
    """
    assert faults(app(tmp_path, requests=text)) == [
        ("requests.py", 4, "request-time features read one another in a circle: a → b → a"),
        ("requests.py", 6, "request-time feature c reads nothing, which nothing gives"),
    ]


def test_a_module_that_does_not_import_is_told_with_the_line_and_all_other_faults(tmp_path):
    folder = app(
        tmp_path,
        views=VIEW.format(line="starts = count(Start, over=days(400))"),
        broken="\nx = 1 / 0\n",
        wrong="\ncount(Start.nothing, over=1)\n",
        odd="\ndef (\n",
    )
    found = faults(folder)
    assert [(file, line) for file, line, _ in found] == [
        ("broken.py", 3),
        ("odd.py", 3),
        ("views.py", 6),
        ("wrong.py", 3),
    ]
    assert found[0][2] == "cannot be imported: ZeroDivisionError: division by zero"


def test_one_field_name_cannot_be_of_two_kinds(tmp_path):
    text = """
    class Rated(Event):
        category: int
    """
    assert faults(app(tmp_path, more=text)) == [
        ("more.py", 3, "field rated.category is integer, and start.category is text; one column cannot hold both")
    ]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InvalidApp, match="there is no such folder"):
        load_app(str(tmp_path / "none"))
