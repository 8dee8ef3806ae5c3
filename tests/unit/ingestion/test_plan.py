"""`stillpoint plan` says what an edited app changes, whom it touches and what it costs, and refuses what would mix two views."""

import json
import uuid

import pytest
import typer
from typer.testing import CliRunner

from ingestion.batch import rules_of
from ingestion.plan.cli import plan as verb
from ingestion.plan.report import lines, plan
from ingestion.whole_states import refuse_other_app
from release.prepare import _refuse_unjoined
from stillpoint.app.load import load_app
from stillpoint.clock import DAY
from stillpoint.encoder import WordLlamaEncoder
from stillpoint.errors import InvalidInput, ReleaseRefused
from stillpoint.events.recorded import event_columns
from stillpoint.lake.tables import Lake
from stillpoint.releases.records import State
from stillpoint.releases.streamed_views import read_streamed_views
from stillpoint.releases.write_targets import Target
from tests.support.app_folders import DEFAULT, SHARED_VIEWS, default_app_and
from tests.support.batch_world import Parts, World
from tests.support.declared_views import listening
from tests.support.hand_made import MADE, hand_made

NEW = '''"""A view that comes."""

from stillpoint.app import StreamView, count, days, user

from .events import ContentStart


class Devotion(StreamView):
    """How much the user hears in a month."""

    entity, ttl = user, days(1)
    devoted = count(ContentStart, over=days(30))
'''


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    where, name = tmp_path_factory.mktemp("plans"), uuid.uuid4().hex[:8]
    runs = default_app_and(where, f"runs_{name}", shared=SHARED_VIEWS)
    events = (DEFAULT / "events.py").read_text()
    edited = default_app_and(
        where,
        f"edited_{name}",
        shared=SHARED_VIEWS.replace("over=[minutes(10), hours(1)]", "over=[minutes(5), hours(1)]"),
        more=NEW,
        events=events.replace("    screen: Name\n", "    screen: Name\n    depth: int | None = None\n"),
        search_embeddings=None,
        version_one=None,
        services=None,
        request_features=None,
    )
    grown = default_app_and(where, f"grown_{name}", shared=SHARED_VIEWS, more=NEW)
    return {"runs": str(runs), "edited": str(edited), "grown": str(grown)}


@pytest.fixture
def world(tmp_path, redis_server, unique, apps):
    world = World(tmp_path, redis_server, unique, app=apps["runs"])
    processor = world.processor()
    for number in range(2):
        processor.process(Parts(listening(number, 60, 60 * number, at=world.now), 2), number)
    return world


def planned(world, app, **how):
    loaded = load_app(app)
    lake = Lake(world.lake.objects, loaded.features, event_columns(loaded.events))
    return plan(lake, loaded, encoder=WordLlamaEncoder(), max_event_age_us=DAY, **how)


def test_the_app_that_runs_changes_nothing(world, apps):
    made = planned(world, apps["runs"])
    assert made.changes.nothing
    assert not made.refusals
    assert list(lines(made)) == [
        f"app {load_app(apps['runs']).name}: nothing changes; stream-{world.query} runs the rest"
    ]


def test_a_view_that_comes_is_measured_on_the_lake(world, apps):
    made = planned(world, apps["grown"])
    assert (made.changes.new_views, made.refusals) == (("devotion",), ())
    (cost,) = made.costs
    stored = Lake(world.lake.objects, world.lake.features).read("events").to_pylist()
    assert made.past.events == len(stored)
    assert cost.events == sum(row["type"] == "content_start" and row["verdict"] == "on_time" for row in stored)
    assert 0 < cost.state_bytes < 400
    assert 0 < cost.rows_per_1000 <= 1000
    assert cost.seconds_per_1000 > 0
    text = "\n".join(lines(made))
    assert "new view devotion: " in text
    assert "bytes of state per user" in text
    assert f"the past: {len(stored)} events from " in text


def test_of_a_large_lake_some_users_are_a_sample(world, apps):
    made = planned(world, apps["grown"], sample=30)
    assert made.past.one_user_in > 1
    assert 0 < made.past.sampled_events < 100


def test_what_changes_under_its_old_name_or_is_still_needed_is_refused_with_its_users(world, apps):
    made_release = hand_made(world.lake, world.settings, project=f"p_{world.query}", users=1)
    for state in (State.PREPARING, State.PREPARED):
        made_release.book.enter("r0001", state, at=MADE, by="t", why="t")
    made = planned(world, apps["edited"])
    assert made.changes.changed_views == {"searching": "searching_v2"}
    assert made.changes.removed_views == ("search_embeddings",)
    assert [(one.event, one.new) for one in made.changes.fields] == [("navigation", ("depth",))]
    (use,) = made.uses
    assert (use.view, use.release, use.state) == ("search_embeddings", "r0001", "prepared")
    assert set(use.models.values()) == {made_release.release.routes[next(iter(made_release.release.routes))].sha256}
    changed, removed = made.refusals
    assert "shared.py:12: view searching computes something else" in changed
    assert "call the new one searching_v2, its features too, and keep searching until no release needs it" in changed
    assert removed == (
        "view search_embeddings is gone from the app, and r0001 (prepared) needs it; keep it until they are retired"
    )


def test_the_verb_prints_json_and_refuses_by_its_exit_code(world, apps, monkeypatch):
    app = typer.Typer()
    app.command()(verb)
    for name in ("lake", "app", "home"):
        monkeypatch.setenv(f"STILLPOINT_{name.upper()}", str(getattr(world.settings, name)))
    done = CliRunner().invoke(app, ["--app", apps["grown"], "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["changes"]["new_views"] == ["devotion"]
    refused = CliRunner().invoke(app, ["--app", apps["edited"]])
    assert refused.exit_code == 1
    assert "searching_v2" in refused.output


def test_the_stream_refuses_what_the_plan_refuses(world, apps):
    known = world.states.views()
    refuse_other_app(load_app(apps["runs"]), known, world.control)
    refuse_other_app(load_app(apps["grown"]), known, world.control)
    with pytest.raises(InvalidInput, match="view searching computes something else than before; call it searching_v2"):
        refuse_other_app(load_app(apps["edited"]), known, world.control)
    with pytest.raises(InvalidInput, match="green needs the view search_embeddings, which the app lacks"):
        refuse_other_app(load_app(apps["edited"]), None, world.control)


def test_a_release_waits_for_a_view_that_has_not_joined(world):
    running = read_streamed_views(world.lake.objects)
    assert running.views.keys() == {view.name for view in rules_of(world.settings).stream.app.views}
    target = Target(colour="blue", project="b", views=("searching", "devotion"))
    _refuse_unjoined(target, None)
    with pytest.raises(ReleaseRefused, match="the stream does not advance the view devotion yet"):
        _refuse_unjoined(target, running)
