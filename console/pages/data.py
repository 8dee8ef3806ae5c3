"""The page Data: the lake by dataset and day, quarantine, checks of the data, snapshots, experiments, parity on demand."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from fastapi import Request
from nicegui import ui

from console.desk import Desk
from console.drawing.charts import days, meter
from console.drawing.html import Child, Markup, join, tag
from console.drawing.parts import (
    Column,
    Tone,
    badge,
    code,
    columns,
    empty,
    figure,
    figures,
    folded,
    panel,
    prose,
    table,
    under,
)
from console.drawing.words import NOTHING, count, moment, share
from console.live.readings import Reading
from console.pages.frame import drawn, frame, section
from console.reading.data import (
    DAYS,
    ArmLine,
    DataCheck,
    Dataset,
    Quarantine,
    SnapshotLine,
    arms,
    checks,
    datasets,
    quarantine,
    snapshots,
)
from console.trouble import trouble
from validation.parity_run import ParityReport, check_parity

PARITY_SAMPLE = 300


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that the page shows, each part read by itself."""

    datasets: Reading[tuple[Dataset, ...]]
    quarantine: Reading[Quarantine]
    checks: Reading[tuple[DataCheck, ...]]
    snapshots: Reading[tuple[SnapshotLine, ...]]
    arms: Reading[tuple[ArmLine, ...]]


@dataclass(slots=True)
class ParityRun:
    """The comparison that an open page has asked for."""

    runs: bool = False
    found: Reading[ParityReport] | None = None


def register(desk: Desk) -> None:
    """Make the page."""

    @ui.page("/data", title="Data · Stillpoint", response_timeout=30)
    async def page(request: Request) -> None:
        lead = "What has been written for good, what was refused, and whether it can be believed."
        with frame(desk, request, "/data", "Data", lead=lead):
            await section(lambda: _read(desk), _draw, every=5.0)
            await _parity(desk)


async def _read(desk: Desk) -> Shown:
    sources, readings = desk.sources, desk.readings
    lake, today = sources.lake, sources.clock().date()
    return Shown(
        *await asyncio.gather(
            readings.read("datasets", lambda: datasets(lake, today), fresh=4.0),
            readings.read("quarantine", lambda: quarantine(lake, today), fresh=4.0),
            readings.read("checks", lambda: checks(sources), fresh=10.0),
            readings.read("snapshots", lambda: snapshots(lake), fresh=10.0),
            readings.read("arms", lambda: arms(sources), fresh=10.0),
        )
    )


def _draw(found: Shown) -> Markup:
    return join(
        panel("Lake", drawn(found.datasets, _lake), note=f"rows by day of the last {DAYS} days", key="lake"),
        panel("Quarantine", drawn(found.quarantine, _quarantine), note=f"records of the last {DAYS} days that are no events", key="quarantine"),
        panel("Checks of the data", drawn(found.checks, _checks), note="of the live release", key="checks"),
        columns(
            panel("Snapshots", drawn(found.snapshots, _snapshots), note="training sets", key="snapshots"),
            panel("Experiment", drawn(found.arms, _arms), note="the newest 5,000 answers", key="arms"),
        ),
    )  # fmt: skip


def _lake(found: tuple[Dataset, ...]) -> Child:
    if not found:
        return empty(
            prose("The lake is empty: nothing was ever committed. `stillpoint events simulate` makes a history.")
        )
    rows = (
        [
            code(one.name),
            count(one.rows),
            count(one.files),
            f"{one.first} … {one.last}" if one.first != one.last else f"{one.first}",
            days(one.by_day, f"Rows of {one.name} by day"),
        ]
        for one in found
    )
    heads: list[Column | str] = [
        "dataset", Column("rows", number=True), Column("files", number=True), "days", f"last {DAYS} days",
    ]  # fmt: skip
    return table(heads, rows, "Datasets of the lake")


def _quarantine(found: Quarantine) -> Child:
    if not found.rows:
        return empty("Nothing is quarantined: every record of these days was an event.")
    reasons = (tag("li", badge(count(number), Tone.WARN), " ", tag("span", reason)) for reason, number in found.reasons)
    rows = (
        [moment(one.arrived_at), one.field or NOTHING, one.reason, count(one.bytes), code(one.payload)]
        for one in found.newest
    )
    heads: list[Column | str] = [
        "arrived (UTC)", "field", Column("reason", wide=True), Column("bytes", number=True), Column("as it arrived", wide=True),
    ]  # fmt: skip
    return join(
        tag("ul", reasons, class_="stack tight"),
        folded(
            f"The newest {len(found.newest)} of {count(found.rows)}",
            table(heads, rows, "Quarantined records"),
            key="newest",
        ),
    )


def _checks(found: tuple[DataCheck, ...]) -> Child:
    if not found:
        return empty(
            prose("No release is live, or it was never checked: `stillpoint release check` looks at the data too.")
        )
    rows = (
        [
            badge("green", Tone.GOOD) if one.passed else badge("red", Tone.BAD),
            join(one.name, " ", under(one.of)),
            one.found,
            prose(one.expected),
            moment(one.at, seconds=False),
        ]
        for one in found
    )
    heads: list[Column | str] = [
        "", "check", Column("found", wide=True), Column("expected", wide=True), "when (UTC)",
    ]  # fmt: skip
    return table(heads, rows, "Checks of the data")


def _snapshots(found: tuple[SnapshotLine, ...]) -> Child:
    if not found:
        return empty(prose("There is no training set yet; `stillpoint snapshot` takes one."))
    rows = (
        [
            code(one.id),
            moment(one.cutoff, seconds=False),
            count(one.rows),
            share(one.positives / one.rows if one.rows else None),
            join(one.expectations, " ", under(one.data)),
        ]
        for one in found
    )
    heads: list[Column | str] = [
        "snapshot", "until (UTC)", Column("rows", number=True), Column("successes", number=True), Column("expectations", wide=True),
    ]  # fmt: skip
    return table(heads, rows, "Snapshots")


def _arms(found: tuple[ArmLine, ...]) -> Child:
    total = sum(one.answers for one in found)
    rows = (
        [
            code(one.name),
            share(one.share),
            one.ordering,
            count(one.answers),
            join(*_sources(one)),
        ]
        for one in found
    )
    heads: list[Column | str] = [
        "arm", Column("share", number=True), "ordering", Column("answers", number=True), Column("sources", wide=True),
    ]  # fmt: skip
    said = None if total else empty("Nobody was served lately, so there is nothing to compare.")
    bars = (meter(one.answers / total, f"Share of the answers of arm {one.name}") for one in found if total)
    return join(table(heads, rows, "Arms of the experiment"), tag("div", bars, class_="stack tight"), said)


def _sources(one: ArmLine) -> list[Child]:
    return [f"{name} {share(number / one.answers)} " for name, number in one.sources] or [NOTHING]


async def _parity(desk: Desk) -> None:
    run = ParityRun()

    async def read() -> ParityRun:
        return run

    async def act(given: Mapping[str, str]) -> None:
        if given.get("action") != "parity" or run.runs:
            return
        run.runs = True
        await shown.refresh()
        try:
            run.found = Reading(await desk.readings.run(lambda: _compare(desk)))
        except Exception as error:  # noqa: BLE001  told as a sentence
            run.found = Reading(None, trouble(error))
        run.runs = False
        await shown.refresh()

    shown = await section(read, _parity_drawn, every=None, act=act)


def _compare(desk: Desk) -> ParityReport:
    now = desk.sources.clock()
    first = now.date() - timedelta(days=1)
    return check_parity(desk.sources.lake, at=now, history=desk.model.history, first=first, sample=PARITY_SAMPLE)


def _parity_drawn(run: ParityRun) -> Markup:
    button = tag("button", "Compare now", type="button", class_="act", data_action="parity", disabled=run.runs)
    parts: list[Child] = []
    if run.runs:
        parts.append(tag("p", "Recomputing what was served from the events that had arrived …", role="status"))
    elif run.found is None:
        parts.append(
            empty(
                f"Recomputes the features of the newest {PARITY_SAMPLE} predictions from the events that had arrived, and compares them value by value."
            )
        )
    else:
        parts.append(drawn(run.found, _report))
    return panel("Parity", *parts, note="was what was served true?", aside=button, key="parity")  # fmt: skip


def _report(report: ParityReport) -> Child:
    if not report.predictions:
        return empty("Nothing was served since yesterday: there is nothing to compare, which is not a pass.")
    verdict = badge("true", Tone.GOOD) if report.passed else badge("not true", Tone.BAD)
    differing = [one for one in report.features if one.equal < one.compared]
    rows = (
        [one.feature, count(one.compared), count(one.mismatched), count(one.missing), count(one.extra), "; ".join(one.examples[:1]) or NOTHING]
        for one in differing
    )  # fmt: skip
    heads: list[Column | str] = [
        "feature", *(Column(name, number=True) for name in ("compared", "mismatched", "missing", "extra")), Column("for example", wide=True),
    ]  # fmt: skip
    return join(
        figures(
            figure("predictions", count(report.predictions)),
            figure("values compared", count(sum(one.compared for one in report.features))),
            figure("unexplained", count(report.unexplained)),
            figure("behind", count(report.lagging), f"longest {report.longest_lag_seconds:.1f} s"),
        ),
        tag("p", verdict, " ", moment(report.at), " UTC"),
        table(heads, rows, "Features that differ") if differing else None,
    )
