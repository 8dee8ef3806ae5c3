"""A newcomer's own events run through the shop's tutorial: every command and every snippet of its README, in their order."""

import json

import pytest

from tests.support.tutorial import as_shell, blocks, shell

README = "examples/shop/README.md"
FILES = ("clicks.csv", "more.csv", "ranker.json")
SERVERS = "stillpoint up"
"""The only command that is not run: the test's own Redis and folder stand for the stack."""

APP = "export STILLPOINT_APP=examples/shop\n"


@pytest.fixture
def run(tmp_path, redis_server):
    inner = shell(tmp_path, redis_server)

    def of_the_folder(script):
        for name in FILES:
            script = script.replace(name, str(tmp_path / name))
        return inner(script.replace(SERVERS, ":"))

    return of_the_folder


def test_every_command_of_the_tutorial_runs_and_the_recommendation_follows_the_events(run):
    script = "\n".join(as_shell(*block) for block in blocks(README))
    ranking = next(text for language, text in blocks(README) if "def recommend" in text)
    telling = ranking.replace('print(*recommend("7")[:3], sep="\\n")', "import json; print(json.dumps(recommend('7')))")
    assert telling != ranking
    before, found, after = script.partition(as_shell("python", ranking))
    assert APP in before
    assert found
    told = run(before + as_shell("python", telling))
    assert "events became history of the lake; 0 lines are no events" in told
    assert "followed by a cart" in told
    first = json.loads(told.splitlines()[-1])
    second = json.loads(run(APP + after + as_shell("python", telling)).splitlines()[-1])
    assert {item for item, _, _ in first} == {item for item, _, _ in second}
    of_aisle = [{(item, score) for item, aisle, score in one if aisle == "aisle3"} for one in (first, second)]
    assert of_aisle[0] != of_aisle[1]
