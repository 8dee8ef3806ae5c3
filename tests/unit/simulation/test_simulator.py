"""The simulator makes the same world from the same seed, and behaviour that context moves."""

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from simulation.behaviour import simulate_day
from simulation.catalogue import CATEGORIES
from simulation.delivery import Delivery
from simulation.faults import NO_FAULTS, Faults
from simulation.history import TRUTH_DATASET, write_history
from simulation.preference import NO_TOPIC, Context, utility
from simulation.recording import write_recording
from simulation.scenario import Scenario
from simulation.topics import TOPICS
from stillpoint.errors import InvalidInput
from stillpoint.events.parsing import ParsedEvent
from stillpoint.events.types import Category, EventType
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from tests.support.wellness import FEATURES, parse

START = date(2026, 10, 5)
SMALL = Scenario(start=START, days=3, users=150, seed=3)


def digest(deliveries: list[Delivery]) -> str:
    return hashlib.sha256(b"".join(b"%d %s" % (one.arrived_us, one.payload) for one in deliveries)).hexdigest()


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = digest(list(SMALL.deliveries()))
    assert first == digest(list(replace(SMALL).deliveries()))
    assert first != digest(list(replace(SMALL, seed=4).deliveries()))


def test_records_come_in_order_of_arrival_and_longer_histories_begin_with_shorter_ones() -> None:
    long = list(replace(SMALL, days=5).deliveries())
    assert all(one.arrived_us <= other.arrived_us for one, other in pairwise(long))
    assert Counter(long) >= Counter(SMALL.deliveries())


def test_every_record_without_faults_is_an_event_that_the_stream_accepts() -> None:
    events = [parse(one.payload, one.arrived_us) for one in replace(SMALL, faults=NO_FAULTS).deliveries()]
    assert all(isinstance(event, ParsedEvent) for event in events)
    assert {event.arrival.type for event in events if isinstance(event, ParsedEvent)} == set(EventType)


def test_each_fault_shows_in_the_verdicts(tmp_path: Path) -> None:
    faults = Faults(malformed=0.05, duplicates=0.1, late=0.05, fast_clocks=0.2)
    counts = write_history(Lake(LocalObjects(tmp_path), FEATURES), replace(SMALL, faults=faults))
    assert all(counts[verdict] > 20 for verdict in ("on_time", "duplicate", "late", "quarantined"))
    clean = write_history(Lake(LocalObjects(tmp_path / "clean"), FEATURES), replace(SMALL, faults=NO_FAULTS))
    assert set(+clean) == {"on_time"}


def test_history_is_complete_repeatable_and_can_be_extended(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    counts = write_history(lake, SMALL)
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    write_history(lake, SMALL)
    assert files == {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    events, quarantine = lake.read("events"), lake.read("quarantine")
    assert events.num_rows + quarantine.num_rows == counts.total()
    assert lake.read("catalogue").num_rows <= 300
    longer = write_history(lake, replace(SMALL, days=4))
    assert all(path.read_bytes() == data for path, data in files.items())
    assert longer.total() > counts.total()
    assert lake.read("events").num_rows + lake.read("quarantine").num_rows == longer.total()
    assert lake.read(TRUTH_DATASET).num_rows > 1_000


def test_another_scenario_does_not_enter_the_same_lake(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    write_history(lake, replace(SMALL, days=1))
    with pytest.raises(InvalidInput, match="holds another simulated history"):
        write_history(lake, replace(SMALL, days=1, seed=99))


def context(**changes: object) -> Context:
    still = {
        "topic": np.array([NO_TOPIC]),
        "rising": np.array([False]),
        "sleep_bounces": np.array([0]),
        "evening": np.array([False]),
        "restless": np.array([False]),
    }
    return Context(**(still | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "up", "down"),
    [
        ({"topic": np.array([[t.name for t in TOPICS].index("exam")])}, "focus", "music"),
        ({"rising": np.array([True])}, "move", "sleep"),
        ({"sleep_bounces": np.array([3])}, "music", "story"),
    ],
)
def test_context_moves_what_is_wanted_and_the_switch_turns_it_off(
    changes: dict[str, np.ndarray], up: str, down: str
) -> None:
    population, catalogue = SMALL.population, SMALL.catalogue
    users, items = np.array([5]), np.arange(len(catalogue))[None, :]
    before = utility(population, catalogue, users, items, context(), effect=True)[0]
    change = utility(population, catalogue, users, items, context(**changes), effect=True)[0] - before

    def chosen(name: str) -> np.ndarray:
        if name == "story":
            return catalogue.is_story
        return catalogue.category == CATEGORIES.index(Category(name))

    assert change[chosen(up)].min() > 1
    assert change[chosen(down)].max() < 0
    off = utility(population, catalogue, users, items, context(**changes), effect=False)
    np.testing.assert_array_equal(off, utility(population, catalogue, users, items, context(), effect=False))


def test_true_preference_predicts_what_happened() -> None:
    scenario = replace(SMALL, users=3_000)
    actions, lists = simulate_day(scenario.population, scenario.catalogue, START, seed=3, context_effect=True)
    started = np.isin(lists.recommendation, actions.play)
    expected = lists.truth.sum(axis=1).mean()
    assert 0.2 < expected < 0.8
    assert started.mean() == pytest.approx(expected, abs=0.15)


def test_titles_differ_and_no_content_is_shown_before_it_is_published() -> None:
    catalogue = SMALL.catalogue
    assert len(set(catalogue.titles)) == len(catalogue)
    actions, lists = simulate_day(SMALL.population, catalogue, START, seed=3, context_effect=True)
    shown = actions.list_row >= 0
    rows = actions.list_row[shown].astype(int)
    assert (catalogue.published_us[lists.items[rows]] <= actions.time_us[shown][:, None]).all()


def test_impossible_scenarios_are_refused() -> None:
    with pytest.raises(InvalidInput, match="share late is 2; expected 0 to 1"):
        replace(SMALL, faults=Faults(late=2))
    with pytest.raises(InvalidInput, match="of 0 users"):
        replace(SMALL, users=0)


def test_recording_holds_one_payload_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    count = write_recording(path, SMALL.deliveries())
    assert path.read_bytes().splitlines() == [one.payload for one in SMALL.deliveries()]
    assert count > 1_000
