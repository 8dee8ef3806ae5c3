"""Views join a running stream without a gap: from the acknowledgement on, lake, online rows and history equal the oracle."""

import threading
import uuid

import pytest

from ingestion.joining import join as joining
from ingestion.state_store import StateStore
from stillpoint.app.load import load_app
from stillpoint.releases.streamed_views import read_streamed_views
from stillpoint.releases.write_targets import Target, write_control
from tests.support.app_folders import SHARED_VIEWS, app_folder
from tests.support.batch_world import Killed, Parts, World
from tests.support.declared_views import assert_equals_the_oracle, listening

OLD_VIEWS = '''"""What was there before."""

from stillpoint.app import StreamView, count, hours, user

from .events import ContentStart


class Listening(StreamView):
    """What the user heard."""

    entity, ttl = user, hours(2)
    begun = count(ContentStart, over=hours(1))
'''


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """The app before and after the edit: four views come, on one user, on contents, on pairs."""
    where, name = tmp_path_factory.mktemp("joining"), uuid.uuid4().hex[:8]
    old = app_folder(where, f"old_{name}", views=OLD_VIEWS)
    return str(old), str(app_folder(where, f"new_{name}", views=OLD_VIEWS, shared=SHARED_VIEWS))


class JoiningWorld(World):
    """A stream whose app can be changed between runs, and whose joins are computed when the test says so."""

    def __init__(self, folder, server, name, apps):
        super().__init__(folder, server, name, app=apps[0])
        self.apps, self.works, self.number = apps, [], 0
        self.start = self.works.append
        views = tuple(view.name for view in load_app(apps[1]).views)
        target = self.control.targets[0]
        write_control(self.lake.objects, (Target(colour=target.colour, project=target.project, views=views),))

    def run(self, app):
        self.settings = self.settings.model_copy(update={"app": app})
        self.driver = self.processor()
        return self.driver

    def batch(self, partitions=2):
        records = listening(self.number, 25, 25 * self.number, at=self.now)
        self.driver.process(Parts(records, partitions), self.number)
        self.number += 1

    def compute(self):
        """Compute the join that is under way, up to the moment when it is ready or has failed."""
        work = self.works.pop()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive() and not work.is_ready:
            thread.join(0.01)

    def joined(self):
        """Whether the stream has said that it advances every view of the new app."""
        views = read_streamed_views(self.lake.objects).views
        return set(views) == {view.name for view in load_app(self.apps[1]).views}

    def assert_whole(self):
        projects = {self.control.targets[0].project: self.server.client()}
        assert_equals_the_oracle(self.lake, load_app(self.apps[1]), projects)


@pytest.fixture
def world(tmp_path, redis_server, unique, apps):
    return JoiningWorld(tmp_path, redis_server, unique, apps)


def begun(world):
    """Two batches with the old app, and two with the new one, whose join has begun and computed nothing yet."""
    world.run(world.apps[0])
    world.batch()
    world.batch()
    world.run(world.apps[1])
    world.batch()
    world.batch()
    assert len(world.works) == 1
    return world


def test_views_that_join_are_whole_at_the_acknowledgement_and_behind_it(world):
    begun(world)
    world.compute()
    assert not world.joined()
    world.driver.acknowledge_if_idle()
    assert world.joined()
    world.assert_whole()
    for partitions in (1, 3):
        world.batch(partitions)
    world.assert_whole()
    world.run(world.apps[1])
    world.batch()
    world.assert_whole()
    assert not world.works


def test_batches_between_the_barrier_and_the_handover_are_taken_in(world, monkeypatch):
    monkeypatch.setattr(joining, "FEW", 5)
    monkeypatch.setattr(joining.ViewJoin.__init__, "__kwdefaults__", {"at_once": 7})
    begun(world)
    world.compute()
    world.batch()
    assert world.joined()
    world.batch()
    world.assert_whole()


def die_at(monkeypatch, place, world):
    """Let the process die at a step of the join; return whether the driver is the one that dies there."""

    def killed(*_, **__):
        raise Killed

    take_in, calls = joining.ViewJoin._take_in, []

    def sometimes(self, *given, **named):
        calls.append(given)
        if len(calls) > 1:
            raise Killed
        take_in(self, *given, **named)

    if place == "in the past":
        monkeypatch.setattr(joining.ViewJoin, "_take_in", killed)
    elif place == "behind the barrier":
        monkeypatch.setattr(joining.ViewJoin, "_take_in", sometimes)
    elif place == "before the commit":
        monkeypatch.setattr(joining.Lake, "commit", killed)
    elif place == "behind the commit":
        monkeypatch.setattr(StateStore, "note_views", killed)
    else:
        monkeypatch.setattr(type(world.driver), "_announce_views", killed)
    return place not in ("in the past",)


PLACES = ["in the past", "behind the barrier", "before the commit", "behind the commit", "before the word"]


@pytest.mark.parametrize("between", ["new", "old"])
@pytest.mark.parametrize("place", PLACES)
def test_a_stream_killed_at_any_step_of_a_join_and_restarted_with_either_app_joins_without_a_gap(
    world, monkeypatch, place, between
):
    begun(world)
    with monkeypatch.context() as patch:
        dies = die_at(patch, place, world)
        world.compute()
        if dies:
            with pytest.raises(Killed):
                world.driver.acknowledge_if_idle()
    world.driver.end()
    world.works.clear()
    if between == "old":
        world.run(world.apps[0])
        world.batch()
    world.run(world.apps[1])
    world.batch()
    if world.works:
        world.compute()
    world.batch()
    assert world.joined()
    world.batch()
    world.assert_whole()


def test_a_join_that_fails_stops_nothing_and_begins_anew(world, monkeypatch):
    begun(world)
    with monkeypatch.context() as patch:
        die_at(patch, "in the past", world)
        world.compute()
    world.batch()
    assert not world.works
    world.time += joining.timedelta(minutes=1)
    world.batch()
    world.compute()
    world.batch()
    world.assert_whole()
