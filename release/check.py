"""Runs every check of the gate, keeps the report, and records whether the release counts as checked."""

from collections.abc import Sequence

from release.checks.better_than_live import BetterThanLive
from release.checks.coverage import Coverage
from release.checks.expectations import expectation_checks
from release.checks.fairness import Fairness
from release.checks.fill_marker import FillMarkerCheck
from release.checks.freshness import Freshness
from release.checks.latency import Latency
from release.checks.mapping import Mapping
from release.checks.parity import Parity
from release.checks.replay import Replay
from release.checks.shared_views import SharedViews
from release.context import ReleaseContext, exclusive
from release.gate import Check, Report, Side, Subject, Thresholds, refuse_repeated_names, report_key, write_report
from release.integrity import refuse_changed
from release.report import html
from release.states import settle
from stillpoint.app.load import load_app
from stillpoint.errors import GateRefused, ReleaseRefused
from stillpoint.releases.parts import load_models, verified_plan
from stillpoint.releases.records import Release, State


def all_checks() -> list[Check]:
    """Return the gate's checks in the order in which they run."""
    return [
        FillMarkerCheck(),
        Mapping(),
        Coverage(),
        Freshness(),
        *expectation_checks(),
        BetterThanLive(),
        Fairness(),
        Replay(),
        Latency(),
        Parity(),
        SharedViews(),
    ]


def check(
    context: ReleaseContext,
    release_id: str,
    *,
    thresholds: Thresholds | None = None,
    checks: Sequence[Check] | None = None,
) -> Report:
    """Run the gate on a prepared or checked release and keep its report as JSON and HTML under `reports/`.

    Green: the release's state becomes `checked`. Red: it becomes `prepared`, and a switch to it needs a stated reason.

    Raises:
        ReleaseRefused: the release is unknown, not prepared, or does not match its record.
    """
    with exclusive(context, "check"):
        live = settle(context)
        release = context.book.get(release_id)
        state = context.book.state(release_id)
        if state not in (State.PREPARED, State.CHECKED):
            raise ReleaseRefused(f"release {release_id} is {state}; only a prepared or checked release is checked")
        refuse_changed(context, release)
        beside = None if live is None or live.release == release_id else context.book.get(live.release)
        subject = subject_of(context, release, beside, thresholds or Thresholds.load())
        chosen = all_checks() if checks is None else list(checks)
        refuse_repeated_names(chosen)
        results = []
        for one in chosen:
            context.progress(f"check {one.name}")
            results.append(one.run(subject))
        at = context.now()
        key = report_key(release_id, at)
        page = key.removesuffix(".json") + ".html"
        report = Report(
            release=release_id,
            against=None if beside is None else beside.id,
            at=at,
            by=context.operator,
            results=tuple(results),
            html=page,
        )
        context.progress("write the report")
        context.lake.objects.put(page, html(report).encode())
        write_report(context.lake.objects, key, report)
        why = "gate green" if report.passed else "gate red: " + ", ".join(one.name for one in report.failures())
        context.progress("enter the state")
        context.book.enter(
            release_id,
            State.CHECKED if report.passed else State.PREPARED,
            at=at,
            by=context.operator,
            why=why,
            report=key,
        )
        return report


def refuse_differing_views(context: ReleaseContext, release: Release, live: Release) -> None:
    """Make sure that both colours hold the same values of shared views now, not only when the gate ran.

    Raises:
        GateRefused: they differ; the text says where, and what to run.
    """
    found = SharedViews().run(subject_of(context, release, live, Thresholds.load()))
    if not found.passed:
        raise GateRefused(
            f"release {release.id}: since its check the colours have drifted apart: {found.sentence()}"
            + (f", for example {found.examples[0]}" if found.examples else "")
            + f"; is the stream running (`stillpoint status`)? then run `stillpoint release check {release.id}` again"
        )


def subject_of(context: ReleaseContext, release: Release, live: Release | None, thresholds: Thresholds) -> Subject:
    """Return what the gate's checks look at: a release, the live one beside it, and the present time."""
    return Subject(
        candidate=side(context, release),
        live=None if live is None else side(context, live),
        lake=context.lake,
        thresholds=thresholds,
        now=context.now(),
        now_us=context.now_us(),
        seed=context.settings.seed,
        app=load_app(context.settings.app),
    )


def side(context: ReleaseContext, release: Release) -> Side:
    """Return a release with its verified plan and models, ready to be read from and ranked with."""
    return Side(
        release=release,
        plan=verified_plan(context.lake.objects, release),
        client=context.online(release.colour),
        models=load_models(context.lake.objects, release.routes),
        features=context.lake.features,
    )
