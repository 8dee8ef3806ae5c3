"""Runs every check of the gate, keeps the report, and enters the release as checked or not."""

from collections.abc import Sequence

from release.checks.better_than_live import BetterThanLive
from release.checks.coverage import Coverage
from release.checks.expectations import expectation_checks
from release.checks.freshness import Freshness
from release.checks.latency import Latency
from release.checks.mapping import Mapping
from release.checks.parity import Parity
from release.checks.replay import Replay
from release.checks.sentinel import SentinelCheck
from release.checks.shared_views import SharedViews
from release.context import ReleaseContext, exclusive
from release.gate import Check, Report, Side, Subject, Thresholds, refuse_repeated_names, report_key, write_report
from release.integrity import open_plan, refuse_changed
from release.models import load_models
from release.report import html
from release.states import settle
from stillpoint.errors import ReleaseRefused
from stillpoint.releases.records import Release, State


def all_checks() -> list[Check]:
    """Return the gate's checks in the order in which they run."""
    return [
        SentinelCheck(),
        Mapping(),
        Coverage(),
        Freshness(),
        *expectation_checks(),
        BetterThanLive(),
        Replay(),
        Latency(),
        Parity(),
        SharedViews(),
    ]


def check(
    tools: ReleaseContext,
    release_id: str,
    *,
    thresholds: Thresholds | None = None,
    checks: Sequence[Check] | None = None,
) -> Report:
    """Run the gate on a prepared or checked release and keep its report as JSON and HTML under `reports/`.

    Green: the release is checked. Red: it is prepared (again), and cannot be switched to without a reason.

    Raises:
        ReleaseRefused: the release is unknown, not prepared, or does not match its record.
    """
    with exclusive(tools, "check"):
        live = settle(tools)
        release = tools.book.get(release_id)
        state = tools.book.state(release_id)
        if state not in (State.PREPARED, State.CHECKED):
            raise ReleaseRefused(f"release {release_id} is {state}; only a prepared or checked release is checked")
        refuse_changed(tools, release)
        beside = None if live is None or live.release == release_id else tools.book.get(live.release)
        subject = Subject(
            candidate=side(tools, release),
            live=None if beside is None else side(tools, beside),
            lake=tools.lake,
            thresholds=thresholds or Thresholds.load(),
            now=tools.now(),
            now_us=tools.now_us(),
            seed=tools.settings.seed,
        )
        chosen = all_checks() if checks is None else list(checks)
        refuse_repeated_names(chosen)
        results = []
        for one in chosen:
            tools.progress(f"check {one.name}")
            results.append(one.run(subject))
        at = tools.now()
        key = report_key(release_id, at)
        page = key.removesuffix(".json") + ".html"
        report = Report(
            release=release_id,
            against=None if beside is None else beside.id,
            at=at,
            by=tools.operator,
            results=tuple(results),
            html=page,
        )
        tools.progress("write the report")
        tools.lake.objects.put(page, html(report).encode())
        write_report(tools.lake.objects, key, report)
        why = "gate green" if report.passed else "gate red: " + ", ".join(one.name for one in report.failures())
        tools.progress("enter the state")
        tools.book.enter(
            release_id,
            State.CHECKED if report.passed else State.PREPARED,
            at=at,
            by=tools.operator,
            why=why,
            report=key,
        )
        return report


def side(tools: ReleaseContext, release: Release) -> Side:
    """Return a release with its verified plan and models, ready to be read from and ranked with."""
    return Side(
        release=release,
        plan=open_plan(tools, release),
        client=tools.online(release.colour),
        models=load_models(tools.lake.objects, release.routes),
    )
