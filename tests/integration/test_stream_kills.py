"""The stream loses and doubles nothing when its driver is killed, by the oracle; nor do views of contents and pairs."""

import random
import time
import uuid

import pytest

from stillpoint.app.load import load_app
from stillpoint.stores.redis.connection import connect
from tests.support.app_folders import SHARED_VIEWS, default_app_and
from tests.support.declared_views import assert_equals_the_oracle
from tests.support.stream_process import finish, running

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(3600)]


def killed_at_random(settings, aws, folder, seed, kills):
    """Two of the kills are aimed: the first micro-batch is done three times, by 2, 3 and 1 partitions."""
    rng = random.Random(seed)
    app = default_app_and(folder, f"killed_{uuid.uuid4().hex[:8]}", shared=SHARED_VIEWS)
    settings = settings.model_copy(update={"app": str(app)})
    with running(settings, aws, folder, seed) as stream:
        stream.send(60)
        stream.start_and_die("before the commit", partitions=2)
        assert stream.commits() == 0
        stream.start_and_die("after the commit", partitions=3)
        assert stream.commits() == 1
        assert stream.watcher.requests.total() == 0
        for turn in range(kills - 2):
            stream.start_when_free(partitions=1 + turn % 3)
            until = time.monotonic() + rng.uniform(0, 1.5)
            while time.monotonic() < until:
                stream.send(10)
            stream.kill()
            stream.send(20)
        stream.start_when_free()
        finish(stream)
        clients = {project: connect(settings.connection(colour)) for colour, project in stream.projects.items()}
        assert_equals_the_oracle(stream.lake, load_app(str(app)), clients)


def test_a_driver_killed_five_times_loses_and_doubles_nothing(settings, aws, tmp_path):
    killed_at_random(settings, aws, tmp_path, seed=random.randrange(10**6), kills=5)


@pytest.mark.soak
def test_a_driver_killed_thirty_times_loses_and_doubles_nothing(settings, aws, tmp_path):
    killed_at_random(settings, aws, tmp_path, seed=random.randrange(10**6), kills=30)
