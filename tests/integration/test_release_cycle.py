"""A release goes through its whole life on real servers, and every refusal is said in words."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from release.check import all_checks, check, side
from release.checks.validated_data import LakeExpectations, ServedParity
from release.context import ReleaseContext
from release.gate import Thresholds, read_report
from release.prepare import prepare
from release.ranking import rank, unguarded
from release.retire import retire
from release.states import last_report
from release.status import history, status
from release.switch import roll_back, switch
from stillpoint.audit.log import AuditAction, entries, verify
from stillpoint.clock import system_clock, to_micros
from stillpoint.errors import GateRefused, LeaseHeld, ReleaseRefused
from stillpoint.features.columns import rows_table
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Kind
from stillpoint.releases.colour import Colour, project_name
from stillpoint.releases.records import State
from stillpoint.settings import Settings
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.release_world import CONTENTS, USERS, World, context_for, favourite
from tests.support.wellness import BIOMETRICS, FEATURES, SESSION_BOUNCE_RATES

RELAXED = Thresholds(latency_p99_ms=1000, digest_pause_seconds=0.05, daily_age_hours=72)


@pytest.fixture
def context(tmp_path: Any, redis_factory: Any) -> ReleaseContext:
    """Tools on two Redis servers, one per colour, and a lake in a folder."""
    servers: list[RedisServer] = [redis_factory(), redis_factory()]
    green, blue = (server.connection_string for server in servers)
    settings = Settings(
        _env_file=None,
        home=tmp_path / "home",
        lake=str(tmp_path / "lake"),
        redis_green=green,
        redis_blue=blue,
        redis_serving=green,
        redis_state=green,
        redis_sandbox=green,
    )
    return context_for(settings, Lake(LocalObjects(tmp_path / "lake"), FEATURES))


@pytest.fixture
def world(context: ReleaseContext) -> World:
    world = World(context.lake)
    world.fill()
    world.mapping(1)
    world.mapping(2)
    return world


def first_choice(context: ReleaseContext, release_id: str, user: str) -> int:
    scores = rank(side(context, context.book.get(release_id)), user, Kind.TODAY, CONTENTS, now_us=context.now_us())
    return int(np.argmax(scores)) if np.ptp(scores) > 0 else -1


def states(context: ReleaseContext) -> dict[str, State | None]:
    return {intent.id: context.book.state(intent.id) for intent in context.book.intents()}


def test_a_release_is_prepared_checked_switched_rolled_back_switched_again_and_retired(
    context: ReleaseContext, world: World
) -> None:
    first = prepare(context, world.wanted(1))
    assert (first.id, first.colour, states(context)) == ("r0001", "green", {"r0001": State.PREPARED})
    report = check(context, "r0001", thresholds=RELAXED)
    assert report.passed, [(result.sentence(), result.examples) for result in report.failures()]
    done = switch(context, "r0001", why="first")
    assert done.registry_uri == f"{context.lake.root}/releases/r0001/registry.pb"
    assert (done.pointer.generation, states(context)) == (1, {"r0001": State.LIVE})

    second = prepare(context, world.wanted(2))
    assert (second.id, second.colour) == ("r0002", "blue")
    report = check(context, "r0002", thresholds=RELAXED)
    assert report.passed, [(result.sentence(), result.examples) for result in report.failures()]
    compared = {result.name: result.found for result in report.results}
    assert (
        compared["shared views"] == f"0 of {len(USERS) * 5 + len(CONTENTS)} pairs of entity and view differ from r0001"
    )
    assert compared["served parity"] == "nothing to compare: no predictions of r0001 in the served log since yesterday"
    assert compared["lake expectations"] == f"0 expectations broken in {len(USERS) * 6 + len(CONTENTS)} rows"
    switch(context, "r0002", why="retrained")
    assert states(context) == {"r0001": State.ROLLBACK_TARGET, "r0002": State.LIVE}

    back = roll_back(context, why="worse")
    assert (back.release.id, back.pointer.generation) == ("r0001", 3)
    assert states(context) == {"r0001": State.LIVE, "r0002": State.CHECKED}
    with pytest.raises(ReleaseRefused, match="there is nothing to roll back to: no release is a rollback target"):
        roll_back(context, why="again")
    switch(context, "r0002", why="it was right")
    assert states(context) == {"r0001": State.ROLLBACK_TARGET, "r0002": State.LIVE}

    with pytest.raises(ReleaseRefused, match=r"release r0001 is the rollback target and still needs green"):
        prepare(context, world.wanted(1))
    assert retire(context, why="make room") == "r0001"
    assert status(context).colours[0].entities == {}
    assert context.online(context.book.get("r0001").colour).exists("stillpoint:sentinel:stillpoint_green") == 0
    third = prepare(context, world.wanted(1))
    assert (third.id, third.colour) == ("r0003", "green")
    assert [event.what for event in history(context)][-2:] == ["preparing", "prepared"]
    assert [event.release for event in history(context) if event.what.startswith("generation")] == [
        "r0001", "r0002", "r0001", "r0002",
    ]  # fmt: skip
    assert [
        (entry.action, entry.details["release"], entry.details["why"]) for entry in entries(context.lake.objects)
    ] == [
        (AuditAction.SWITCH, "r0001", "first"),
        (AuditAction.SWITCH, "r0002", "retrained"),
        (AuditAction.ROLL_BACK, "r0001", "worse"),
        (AuditAction.SWITCH, "r0002", "it was right"),
        (AuditAction.RETIRE, "r0001", "make room"),
    ]
    assert {entry.by for entry in entries(context.lake.objects)} == {"ann@test"}
    assert verify(context.lake.objects).problems == ()


def live_pair(context: ReleaseContext, world: World) -> None:
    """Bring two releases to life: r0002 live in blue, r0001 its rollback target."""
    for version in (1, 2):
        release = prepare(context, world.wanted(version))
        assert check(context, release.id, thresholds=RELAXED).passed
        switch(context, release.id, why=f"mapping {version}")


def test_everybody_gets_their_own_content_in_both_releases_and_the_guard_keeps_a_stale_mapping_out(
    context: ReleaseContext, world: World
) -> None:
    live_pair(context, world)
    for user in USERS[:6]:
        assert first_choice(context, "r0001", user) == favourite(user)
        assert first_choice(context, "r0002", user) == favourite(user)
    # The accident that releases exist to prevent: the model of mapping 2 reads the colour of mapping 1.
    mixed = side(context, context.book.get("r0002"))
    stale = replace(
        mixed,
        plan=side(context, context.book.get("r0001")).plan,
        client=context.online(context.book.get("r0001").colour),
    )
    user = USERS[3]
    scores = rank(stale, user, Kind.TODAY, CONTENTS, now_us=context.now_us(), resolve=unguarded)
    stranger = USERS[::-1][3]
    assert int(np.argmax(scores)) == favourite(stranger) != favourite(user)
    kept_out = rank(stale, user, Kind.TODAY, CONTENTS, now_us=context.now_us())
    assert np.ptp(kept_out) == 0, "with the guard nobody's taste enters the answer"
    new = rank(mixed, "somebody-new", Kind.TODAY, CONTENTS, now_us=context.now_us())
    assert np.isfinite(new).all()


def test_a_model_only_release_needs_no_fill_and_keeps_the_guards(context: ReleaseContext, world: World) -> None:
    live_pair(context, world)
    blue = context.online(context.book.get("r0002").colour)
    writes = blue.info("stats")["total_commands_processed"]
    with pytest.raises(ReleaseRefused, match="the models come from mapping 1 and r0002, whose features they would use"):
        prepare(context, world.wanted(1, model_only=True))
    release = prepare(context, world.wanted(2, salt=5, model_only=True))
    assert (release.id, release.shares, release.colour) == ("r0003", "r0002", "blue")
    assert blue.info("stats")["total_commands_processed"] - writes < 10
    assert check(context, "r0003", thresholds=RELAXED).passed
    switch(context, "r0003", why="better trees")
    assert states(context) == {
        "r0001": State.ROLLBACK_TARGET, "r0002": State.ROLLBACK_TARGET, "r0003": State.LIVE,
    }  # fmt: skip
    assert first_choice(context, "r0003", USERS[1]) == favourite(USERS[1])
    retire(context, "r0002", why="its colour is shared")
    assert first_choice(context, "r0003", USERS[1]) == favourite(USERS[1]), "retiring it must not empty the live colour"
    assert roll_back(context, why="worse").release.id == "r0001"


def test_a_switch_is_refused_in_words_and_the_live_release_is_undisturbed(
    context: ReleaseContext, world: World
) -> None:
    release = prepare(context, world.wanted(1))
    with pytest.raises(ReleaseRefused, match="there is no release 'r0009'; recorded are: r0001"):
        switch(context, "r0009", why="typo")
    with pytest.raises(GateRefused, match="release r0001 is unchecked; run `stillpoint release check r0001` first"):
        switch(context, "r0001", why="in a hurry")
    red = check(context, "r0001", thresholds=RELAXED.model_copy(update={"latency_p99_ms": 1e-6}))
    assert not red.passed
    with pytest.raises(GateRefused, match=r"the gate is red: latency: found p50 .* expected p99 of at most 0 ms"):
        switch(context, "r0001", why="in a hurry")
    assert check(context, "r0001", thresholds=RELAXED).passed
    later = replace(context, clock=lambda: system_clock() + timedelta(hours=2))
    with pytest.raises(GateRefused, match="its report is 120 min old; expected under 60 min"):
        switch(later, "r0001", why="late")

    objects = context.lake.objects
    for key, text in (
        (release.registry, "frozen registry"),
        (release.read_plan, "read plan"),
    ):
        kept = objects.get(key)
        objects.put(key, kept + b" ")
        with pytest.raises(ReleaseRefused, match=f"{text} .* has sha256 .*; its record says"):
            switch(context, "r0001", why="tampered")
        objects.put(key, kept)
    model = release.routes[Kind.TODAY].model_uri
    kept = objects.get(model)
    objects.put(model, kept[:-1])
    with pytest.raises(ReleaseRefused, match=r"model artifact has sha256 .*; expected"):
        switch(context, "r0001", why="tampered")
    objects.put(model, kept)
    client = context.online(release.colour)
    client.hset("stillpoint:sentinel:stillpoint_green", "mapping_version", "9")
    with pytest.raises(ReleaseRefused, match="green holds mapping 9 and its fill is complete; expected mapping 1"):
        switch(context, "r0001", why="mixed")
    client.hset("stillpoint:sentinel:stillpoint_green", "mapping_version", "1")
    assert context.book.live() is None
    switch(context, "r0001", why="at last")
    with pytest.raises(ReleaseRefused, match="release r0001 is live; switch to another or roll back"):
        retire(context, "r0001", why="oops")


def test_colours_that_have_drifted_apart_since_the_check_are_not_switched(
    context: ReleaseContext, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLPOINT_GATE_DIGEST_PAUSE_SECONDS", "0.05")
    for version in (1, 2):
        release = prepare(context, world.wanted(version))
        assert check(context, release.id, thresholds=RELAXED).passed
        if version == 1:
            switch(context, release.id, why="first")
    only_there = [world.row(BIOMETRICS, "u7", context.now(), 3)]
    table = pa.Table.from_pylist(only_there, schema=feature_columns(BIOMETRICS))
    OnlineWriter(context.online(release.colour), release.project).write(ViewLayout.of(BIOMETRICS), table)
    with pytest.raises(
        GateRefused, match=r"r0002: since its check the colours have drifted apart: .*1 of .*biometrics u7"
    ):
        switch(context, "r0002", why="half an hour later")
    assert context.book.live().release == "r0001"
    assert context.book.announced() is None
    OnlineWriter(context.online(Colour.GREEN), project_name(Colour.GREEN)).write(ViewLayout.of(BIOMETRICS), table)
    switch(context, "r0002", why="both have it")


def test_a_forced_switch_needs_no_green_report_and_its_reason_is_kept(context: ReleaseContext, world: World) -> None:
    prepare(context, world.wanted(1))
    switch(context, "r0001", why="first", force="the gate's Redis is down")
    live = context.book.live()
    assert live is not None
    assert live.why == "first (forced: the gate's Redis is down)"
    (noted,) = entries(context.lake.objects)
    assert noted.details["why"] == live.why


def test_a_red_gate_says_which_check_found_what_and_keeps_a_report_to_read(
    context: ReleaseContext, world: World
) -> None:
    release = prepare(context, world.wanted(1))
    client = context.online(release.colour)
    keys = list(client.scan_iter(match="*stillpoint_green", count=1000))
    users = [key for key in keys if b"user_id" in key]
    for key in users[:10]:
        client.unlink(key)
    report = check(context, "r0001", thresholds=RELAXED)
    failed = {result.name for result in report.failures()}
    assert {"coverage", "parity"} <= failed
    assert context.book.state("r0001") is State.PREPARED
    key = last_report(context.book, "r0001")
    assert key is not None
    kept = read_report(context.lake.objects, key)
    assert kept == report
    assert kept.html is not None
    page = context.lake.objects.get(kept.html).decode()
    assert "<svg" in page
    assert "at least 99.0% of the lake" in page
    assert not re.search(r"(src|href)=.https?:", page), "the page fetches nothing"


def test_a_value_outside_its_declared_range_turns_the_gate_red(context: ReleaseContext, world: World) -> None:
    release = prepare(context, world.wanted(1))
    client = context.online(release.colour)
    moment = to_micros(context.now())
    row = ("u1", moment, moment, *(1.5 if "rate" in name else 2 for name in SESSION_BOUNCE_RATES.feature_names))
    OnlineWriter(client, release.project).write(
        ViewLayout.of(SESSION_BOUNCE_RATES), rows_table(SESSION_BOUNCE_RATES, [row])
    )
    (found,) = [one for one in check(context, release.id, thresholds=RELAXED).results if one.name == "expectations"]
    assert not found.passed
    assert any("session_bounce_rates session_bounce_rate: expected" in text for text in found.examples), found.examples


def test_a_row_of_the_lake_outside_its_declared_range_turns_the_gate_red_and_the_switch_says_so(
    context: ReleaseContext, world: World
) -> None:
    release = prepare(context, world.wanted(1))
    row = world.row(BIOMETRICS, "u1", context.now() - timedelta(minutes=30), 1)
    world.write(BIOMETRICS, [row | {"heart_rate_mean_10m": 400.0}])
    only = [LakeExpectations()]
    report = check(context, release.id, thresholds=RELAXED, checks=only)
    (found,) = report.failures()
    assert found.found == f"1 expectations broken in {len(USERS) * 6 + len(CONTENTS) + 1} rows"
    assert found.examples == (
        "biometrics heart_rate_mean_10m: expected from 25 to 250; 1 of 31 rows break it, for example 400.0",
    )
    with pytest.raises(GateRefused, match="the gate is red: lake expectations: found 1 expectations broken in"):
        switch(context, release.id, why="in a hurry")
    (path,) = {file.path for file in context.lake.files("features/user_taste")}
    context.lake.objects.put(path, b"PAR1 not really")
    (found,) = check(context, release.id, thresholds=RELAXED, checks=only).failures()
    assert f"committed files are gone or damaged: {path}" in found.found
    assert context.lake.objects.get(path) == b"PAR1 not really"


def test_what_the_live_release_served_and_no_event_explains_turns_the_gate_red(
    context: ReleaseContext, world: World
) -> None:
    first = prepare(context, world.wanted(1))
    switch(context, first.id, why="first", force="the test needs it live")
    second = prepare(context, world.wanted(2))
    views = [
        {
            "view": SESSION_BOUNCE_RATES.name,
            "status": "PRESENT",
            "event_timestamp": context.now(),
            "created_timestamp": context.now(),
            "values": json.dumps(dict.fromkeys(SESSION_BOUNCE_RATES.feature_names, 1)),
        }
    ]
    world.served(first.id, "u1", views)
    thresholds = RELAXED.model_copy(update={"digest_reads": 1})
    report = check(context, second.id, thresholds=thresholds, checks=[ServedParity()])
    (found,) = report.failures()
    assert found.found.startswith(f"{len(SESSION_BOUNCE_RATES.feature_names)} unexplained differences and 0.0% of rows")
    assert "no event explains the row" in found.examples[0]
    with pytest.raises(GateRefused, match="the gate is red: served parity: found 5 unexplained differences"):
        switch(context, second.id, why="in a hurry")
    world.served("r0009", "u1", [])
    again = thresholds.model_copy(update={"served_unexplained": 5})
    assert check(context, second.id, thresholds=again, checks=[ServedParity()]).passed


def test_a_gate_that_demands_served_predictions_refuses_a_live_release_without_them(
    context: ReleaseContext, world: World
) -> None:
    first = prepare(context, world.wanted(1))
    switch(context, first.id, why="first", force="the test needs it live")
    second = prepare(context, world.wanted(2))
    demanding = RELAXED.model_copy(update={"served_least": 1})
    (found,) = check(context, second.id, thresholds=demanding, checks=[ServedParity()]).failures()
    assert found.found == "nothing to compare: no predictions of r0001 in the served log since yesterday"


def test_definitions_applied_and_materialized_later_do_not_stop_a_rollback_or_change_what_is_served(
    context: ReleaseContext, world: World
) -> None:
    from feast import FeatureView

    from release.fill import feature_store
    from stillpoint.feast_config import feast_environment

    live_pair(context, world)
    before = context.book.get("r0001")
    with feast_environment(context.settings, 1):
        store = feature_store(context, before.colour, 1)
        extra = store.get_feature_view("user_profiles")
        store.apply([FeatureView(name="added_later", entities=[store.get_entity("user")], source=extra.batch_source,
                                 schema=list(extra.schema))])  # fmt: skip
        store.materialize(
            start_date=context.now() - timedelta(days=2), end_date=context.now(), feature_views=["user_profiles"]
        )
    assert roll_back(context, why="back").release == before
    assert side(context, before).plan.sha256 == before.read_plan_sha256
    assert "added_later" not in [view.name for view in side(context, before).plan.views]
    assert switch(context, "r0002", why="forward").release.id == "r0002"


def test_two_release_verbs_at_once_exclude_each_other(context: ReleaseContext, world: World) -> None:
    refused = []

    def progress(step: str) -> None:
        if step.startswith("claim"):
            with pytest.raises(LeaseHeld, match="lease release is held by stillpoint release prepare by ann@test") as e:
                prepare(replace(context, operator="bob@test"), world.wanted(2))
            refused.append(e)

    prepare(replace(context, progress=progress), world.wanted(1))
    assert len(refused) == 1


def test_a_fill_is_refused_when_redis_would_evict_live_features(context: ReleaseContext, world: World) -> None:
    client = context.online(Colour.GREEN)
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(
        ReleaseRefused, match="has maxmemory-policy allkeys-lru, under which it silently drops features that are live"
    ):
        prepare(context, world.wanted(1))
    client.config_set("maxmemory-policy", "noeviction")
    assert prepare(context, world.wanted(1)).id == "r0001"


def test_the_checks_of_the_gate_have_names_of_their_own() -> None:
    names = [one.name for one in all_checks()]
    assert len(set(names)) == len(names)
