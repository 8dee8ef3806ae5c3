"""The demo's acts, in order, and what is shown of each."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from typing import Any

import httpx
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from simulation.demo.ending import next_steps, tell
from simulation.demo.stage import DemoFailed, Stage
from simulation.demo.stories import STORIES, Story, is_sleep_story
from simulation.demo.summary import WIDTH, Summary, load_lines, print_whole, show, step_lines
from simulation.demo.watch import DemoLoad, LoadTally, ServiceClient, StoryResult
from stillpoint.clock import Clock, system_clock
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.local.process import free_port
from stillpoint.messages import PULL_KINDS, Kind
from stillpoint.settings import Settings

USERS = 800
HISTORY_DAYS = 9
MORE_DAYS = 1
_SHOWN = 10
_OF_RELEASES = (
    "release.cli",
    "feature_repo.definitions",
    "release.prepare",
    "release.check",
    "release.switch",
    "xgboost",
)
"""What the release verbs import: several seconds, for which one processor is idle while the other trains."""
_LATER = frozenset({"mlflow", "sagemaker", "console"})
"""Servers that the first release does without; they start when the stories are told."""

_TRACKING_SECONDS = 120.0


class Play:
    """The demo, act by act."""

    def __init__(self, stage: Stage, console: Console, clock: Clock = system_clock) -> None:
        self._stage = stage
        self._console = console
        self._clock = clock
        self._settings: Settings = stage.settings
        self._client = ServiceClient(f"http://{self._settings.http_host}:{self._settings.http_port}")
        self._began = time.monotonic()
        self._first_change: float | None = None
        self._wrong: list[str] = []
        self._summary = Summary()

    def run(self) -> None:
        """Run all acts. Raises `DemoFailed` naming the part that failed, also when recommendations moved the wrong way."""
        today = self._clock().date()
        with self._step("start Redis and the AWS stand-in"):
            self._stage.up(without=_LATER)
        self._first_release(today)
        users = self._users_of_stories(today)
        for story, user in zip(STORIES, users, strict=True):
            self._tell(story, user)
        tally = self._second_release(today)
        self._guard()
        self._trust()
        self._end(users, tally)

    # --- acts ---

    def _first_release(self, today: date) -> None:
        verb = self._stage.verb
        # The last day is left for the second release: what is added later may only be newer.
        start = today - timedelta(days=HISTORY_DAYS + MORE_DAYS)
        with self._step(f"simulate {USERS} users for {HISTORY_DAYS} days, define features in Feast") as done:
            with ThreadPoolExecutor(1) as pool:
                applying = pool.submit(verb, "feast", "--colour", "sandbox", "apply")
                history = verb(
                    "events",
                    "simulate",
                    "--users",
                    str(USERS),
                    "--days",
                    str(HISTORY_DAYS),
                    "--start",
                    f"{start}",
                    "--json",
                )
                applying.result()
            done(f"{history['records']:,} events (simulated behaviour)")
        with self._step("compute features of history, by the stream's own definition") as done:
            computing = ThreadPoolExecutor(1).submit(
                verb,
                "daily",
                "--from",
                f"{start + timedelta(days=1)}",
                "--to",
                f"{today - timedelta(days=MORE_DAYS)}",
                "--json",
            )
            rows = verb("backfill", "--no-spark", "--json")
            done(f"{sum(rows.values()) + sum(computing.result().values()):,} rows")
        self._stage.prepare("release", _OF_RELEASES)
        self._stage.begin("stream", "stream", "--metrics-port", str(free_port()))
        with self._step("train on a point-in-time snapshot") as done:
            snapshot = verb("snapshot", "--no-expectations", "--json")  # the gate checks what goes live
            model = verb("train", snapshot["snapshot_id"], "--no-track", "--json")
            done(f"{snapshot['rows']:,} rows; {model['worth']}")
        self._stage.begin("worker", "worker")
        self._stage.begin("serve", "serve")
        with self._step("release r0001: fill green, check it, switch") as done:
            done(self._release(model["sha256"], "the first release"))
        with self._step("the service, the stream and the worker answer"):
            self._stage.wait("serve", self._client.ready, 60)
            self._stage.wait("stream", self._stream_is_up, 60)

    def _await_tracking(self) -> None:
        """Wait for MLflow, which starts beside the stories; training says what is wrong if it never answers."""
        ends = time.monotonic() + _TRACKING_SECONDS
        while time.monotonic() < ends:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self._settings.mlflow_tracking_uri}/health", timeout=2).is_success:
                    return
            time.sleep(0.2)

    def _second_release(self, today: date) -> LoadTally:
        verb = self._stage.verb
        self._stage.up()
        users = self._some_users()
        self._console.print()
        self._console.rule("A new model and its features, while requests keep coming")
        with DemoLoad(f"http://{self._settings.http_host}:{self._settings.http_port}", users) as load:
            with self._step("one more day of history, train again (tracked in MLflow)") as done:
                start = today - timedelta(days=HISTORY_DAYS + MORE_DAYS)
                days = str(HISTORY_DAYS + MORE_DAYS)
                verb(
                    "events",
                    "simulate",
                    "--users",
                    str(USERS),
                    "--days",
                    days,
                    "--start",
                    f"{start}",
                    "--json",
                )
                verb("backfill", "--no-spark", "--from", f"{today - timedelta(days=MORE_DAYS + 1)}", "--json")
                self._materialize_live(today - timedelta(days=MORE_DAYS + 1))
                verb("daily", "--from", f"{today}", "--json")
                snapshot = verb("snapshot", "--json")
                self._await_tracking()
                model = verb("train", snapshot["snapshot_id"], "--json")
                done(f"{snapshot['rows']:,} rows; {model['worth']}")
            with self._step("release r0002: fill blue, check it against green, switch") as done:
                done(self._release(model["sha256"], "more history"))
            with self._step("roll back to r0001") as done:
                done(_switched(verb("release", "rollback", "--why", "to show that it can be undone", "--json")))
            with self._step("and forward again to r0002") as done:
                done(_switched(verb("release", "switch", "r0002", "--why", "as planned", "--json")))
            time.sleep(1.0)
        tally = load.tally
        print_whole(self._console, load_lines(tally))
        if tally.failed or tally.mixed:
            self._wrong.append(f"{tally.failed} failed and {tally.mixed} mixed answers: {tally.examples[:2]}")
        return tally

    def _materialize_live(self, since: date) -> None:
        """Bring backfilled rows, which no stream has seen, into the live colour by Feast's own command."""
        views = [argument for view in self._lake().features.streamed for argument in ("--views", view.name)]
        now = f"{self._clock():%Y-%m-%dT%H:%M:%S}"
        self._stage.verb("feast", "--colour", "live", "materialize", *views, f"{since}T00:00:00", now)

    def _release(self, sha256: str, why: str) -> str:
        verb = self._stage.verb
        record = verb("release", "prepare", "--model", sha256, "--why", why, "--json")
        report = verb("release", "check", record["id"], "--json")
        self._summary.pages[f"what the gate found of {record['id']}"] = self._stage.keep_page(report["html"])
        return _switched(verb("release", "switch", record["id"], "--why", why, "--json"))

    def _tell(self, story: Story, user: str) -> None:
        self._console.print()
        self._console.rule(story.title)
        print_whole(self._console, [f"  {user} {story.told}"])
        offered = self._client.predict(user, Kind.SLEEP)["items"]
        stories = [item["content_id"] for item in sorted(offered, key=is_sleep_story, reverse=True)]
        told = self._client.tell(user, story.kind, story.feature, story.shown, story.make(user, self._clock(), stories))
        if self._first_change is None:
            self._first_change = time.monotonic() - self._began
        self._summary.stories.append((story.title, told))
        self._console.print(_lists(told))
        print_whole(
            self._console,
            [
                *_features(story, told),
                (
                    f"  accepted {told.accepted_ms:,.0f} ms → features readable {told.readable_ms:,.0f} ms"
                    f" → recommendation stored [bold]{told.stored_ms:,.0f} ms[/]"
                ),
            ],
        )
        before, after = story.count(told.before), story.count(told.after)
        arrow = f"{before} → {after}"
        if (after > before) if story.grows else (after < before):
            self._console.print(f"  {story.measure}: [bold green]{arrow}[/]")
        else:
            self._console.print(f"  {story.measure}: [bold red]{arrow}[/]")
            self._wrong.append(f"{story.title}: {story.measure} went {arrow}")

    def _trust(self) -> None:
        self._console.print()
        self._console.rule("Was what was served true?")
        with self._step("recompute served features from the events that had arrived") as done:
            found = self._stage.verb("validate", "parity", "--json")
            done(f"{found['predictions']:,} predictions, {found['unexplained']} unexplained differences")

    def _guard(self) -> None:
        self._console.print()
        self._console.rule("What the guard prevents (an experiment beside the live service)")
        found = self._stage.program("mixup", "inference.mixup", "r0001", "r0002")
        example = found["example"] or {}
        taken = f"; {example['user']} as {example['taken_for']}" if example else ""
        print_whole(
            self._console,
            [
                "  The model of r0001 over the features of r0002, as if one alone had switched,",
                f"  for {found['people']} users:",
                f"  guard off: [bold red]{found['somebody_else']}[/] are ranked with somebody else's taste{taken}",
                (
                    f"  guard on: [bold green]{found['people'] - found['refused_by_guard']}[/] are; "
                    f"{found['refused_by_guard']} get popular contents, marked as fallback"
                ),
            ],
        )
        if found["refused_by_guard"] != found["people"]:
            self._wrong.append(f"the guard let {found['people'] - found['refused_by_guard']} mixed rankings through")

    def _end(self, users: Sequence[str], tally: LoadTally) -> None:
        if self._wrong:
            raise DemoFailed("the demo ran, but not as promised: " + "; ".join(self._wrong))
        total = time.monotonic() - self._began
        address = f"http://{self._settings.http_host}:{self._settings.http_port}"
        curl = self._curl(address, users)
        running = self._stage.pids if self._stage.keep else None
        first = f"The first recommendation changed after {self._first_change or 0:.0f} s, all of it took {total:.0f} s."
        show(self._console, self._summary, tally)
        tell(self._console, [first, *next_steps(curl, users[0], running=running, console=self._stage.console)])

    def _curl(self, address: str, users: Sequence[str]) -> str:
        """Return a call that answers a recommendation of the model: one that a story has stored, else one made anew.

        Raises:
            DemoFailed: both answers are fallbacks.
        """
        for story, user in zip(STORIES, users, strict=True):
            if story.kind in PULL_KINDS and self._client.stored(user, story.kind)["source"] != "fallback":
                return f"curl '{address}/v1/users/{user}/recommendations?kinds={story.kind}'"
        if self._client.predict(users[0], Kind.TODAY)["source"] == "fallback":
            raise DemoFailed(f"{users[0]} is answered by the fallback only, although a release is live")
        body = json.dumps({"user_id": users[0], "kind": Kind.TODAY})
        return f"curl '{address}/v1/recommendations' -H 'Content-Type: application/json' -d '{body}'"

    # --- pieces ---

    @contextmanager
    def _step(self, what: str) -> Iterator[Any]:
        notes: list[str] = []
        began = time.monotonic()
        with self._console.status(what):
            yield notes.append
        seconds = time.monotonic() - began
        self._summary.stages.append((what, seconds))
        print_whole(self._console, step_lines(what, seconds, notes[0] if notes else None))

    def _lake(self) -> Lake:
        return open_lake(self._settings)

    def _stream_is_up(self) -> bool:
        from stillpoint.releases.write_targets import read_acknowledged, read_control

        lake = self._lake()
        known = read_acknowledged(lake.objects)
        return known is not None and known.generation >= read_control(lake.objects).generation

    def _users_of_stories(self, today: date) -> list[str]:
        """Return a user for each story: subscribed, fond of sleep and meditation, the most active first."""
        lake = self._lake()
        table = lake.read("users")
        subscribed = set(table.filter(table["subscribed"])["user_id"].to_pylist())
        last = today - timedelta(days=MORE_DAYS)
        taste = lake.read(feature_dataset(lake.features.view("user_taste")), DateRange(last, last))
        taste = taste.filter(pc.greater(pc.add(taste["plays_30d_sleep"], taste["plays_30d_meditate"]), 3))
        ordered = taste.sort_by([("plays_30d_sleep", "descending"), ("user_id", "ascending")])["user_id"].to_pylist()
        chosen = [user for user in dict.fromkeys(ordered) if user in subscribed]
        users = []
        for story in STORIES:
            # A user whose list can still move in the story's direction.
            fitting = (user for user in chosen if user not in users and self._can_move(story, user))
            users.append(next(fitting, ""))
        if "" in users:
            raise DemoFailed(
                f"none of {len(chosen)} simulated users suits each of the stories; try another STILLPOINT_SEED"
            )
        return users

    def _can_move(self, story: Story, user: str) -> bool:
        count = story.count(self._client.predict(user, story.kind))
        return count < 2 if story.grows else count >= 2

    def _some_users(self) -> list[str]:
        return sorted(self._lake().read("users")["user_id"].to_pylist())[:200]


def _switched(document: Mapping[str, Any]) -> str:
    release = document["release"]
    return f"live in {release['colour']}, {document['switch_seconds']:.2f} s after workers had loaded it"


def _lists(told: StoryResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", width=WIDTH - 1)
    table.add_column("")
    for heading in ("before", "after"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column("", no_wrap=True)
    held = {item["content_id"] for item in told.before["items"]}
    for place in range(min(_SHOWN, len(told.before["items"]), len(told.after["items"]))):
        old, new = told.before["items"][place], told.after["items"][place]
        style = "" if new["content_id"] in held else "bold"
        table.add_row(
            f"{place + 1:3}",
            old["title"],
            f"[dim]{old['category']}[/]",
            f"[{style}]{new['title']}[/]" if style else new["title"],
            f"[dim]{new['category']}[/]",
        )
    return table


def _features(story: Story, told: StoryResult) -> list[str]:
    return [
        f"  {name.partition(':')[2]}: {_value(told.features_before[name])} → {_value(told.features_after[name])}"
        for name in story.shown
    ]


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return f"{len(value)} numbers"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
