"""An app's digest changes with what it computes, and with nothing else."""

import itertools

import pytest

from stillpoint.app.load import load_app
from stillpoint.features.streamed.engine import section_name

EVENTS = """
from stillpoint.app import Event, Family

SHOWN = Family(name="shown", allowed_lateness=None)

class Buy(Event):
    item_id: str
    price: float

class Show(Event, lake_only=True, family=SHOWN):
    items: tuple[str, ...]
"""
VIEWS = """
from stillpoint.app import DType, StreamView, hours, own, user
from .events import Buy
from ._prices import dear

class Buying(StreamView):
    "What was bought."
    entity, ttl = user, hours(1)
    dear_ones = own(lambda events, at: sum(dear(one) for one in events), Buy, gives=DType.INT64, over=hours(1))
"""
PRICES = """
LIMIT = 10.0

def dear(event) -> bool:
    # a comment
    return event.price > LIMIT
"""
REST = """
from stillpoint.app import Entity, hours, minutes
from stillpoint.app.recommendations import Label, PostProcessing, RecommendationKind, Trigger, request_time
from stillpoint.app.tables import column, daily_view
from stillpoint.app import DType
from .events import Buy, Show

item = Entity("item")
again = RecommendationKind(name="again", delivery="pull", ttl=hours(1))
on_buy = Trigger(on=Buy, kinds=(again,), when=Buy.price > 5.0)
bought = Label(shown=Show, items="items", positive=Buy, item="item_id", within=minutes(30))
steps = PostProcessing(steps=("diversity",))

@request_time("dear_ones", unit="flag")
def many(rows):
    "Whether many dear things were bought."
    return rows["dear_ones"] > 3

@daily_view(item, column("sold", DType.INT64, unit="sales", description="How often it was sold."))
def items(day):
    "What sold."
    return day.sums.with_columns(sold=1)
"""
APP = {"events": EVENTS, "views": VIEWS, "_prices": PRICES, "rest": REST}
numbers = itertools.count()


@pytest.fixture
def digests(tmp_path):
    def make(file=None, old=None, new=None):
        folder = tmp_path / f"digested_{next(numbers)}"
        folder.mkdir()
        for name, text in APP.items():
            if name == file:
                assert old in text
                text = text.replace(old, new)
            (folder / f"{name}.py").write_text(text)
        app = load_app(str(folder))
        return app.digest, section_name(app.views[0])

    return make


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("_prices", "    # a comment\n", "\n\n"),
        ("_prices", "def dear(event) -> bool:", 'def dear(event: object) -> "bool":\n    """Whether it cost much."""'),
        ("views", '"What was bought."', '"Purchases."'),
        ("rest", "Whether many dear things were bought.", "Many."),
        ("rest", "How often it was sold.", "Sales."),
    ],
)
def test_words_and_layout_do_not_count(digests, file, old, new):
    assert digests(file, old, new) == digests()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("_prices", "10.0", "11.0"), ("_prices", "price > L", "price >= L"), ("views", "sum(", "-sum(")],
)
def test_what_a_helper_in_another_file_does_counts_in_the_view(digests, file, old, new):
    app, section = digests(file, old, new)
    assert app != digests()[0]
    assert section != digests()[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Buy.price > 5.0", "Buy.price > 6.0"),
        ("within=minutes(30)", "within=minutes(31)"),
        ('"diversity"', '"not_just_seen"'),
        ('rows["dear_ones"] > 3', 'rows["dear_ones"] > 4'),
        ("sold=1", "sold=2"),
        ("ttl=hours(1)", "ttl=hours(2)"),
    ],
)
def test_triggers_labels_steps_and_functions_count_in_the_app_alone(digests, old, new):
    app, section = digests("rest", old, new)
    assert app != digests()[0]
    assert section == digests()[1]
