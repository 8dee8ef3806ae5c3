"""The page Now: what is red and how to mend it, both colours, rates, stages, queues and servers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import Request
from nicegui import ui

from console.desk import Desk
from console.drawing.charts import meter, sparkline
from console.drawing.html import Child, Markup, join, tag
from console.drawing.parts import (
    Column,
    Tone,
    badge,
    code,
    colour_name,
    columns,
    empty,
    facts,
    figure,
    figures,
    folded,
    link,
    panel,
    prose,
    table,
    under,
)
from console.drawing.words import NOTHING, age, count, milliseconds, moment, rate, share, short, size
from console.live.readings import Reading
from console.pages.frame import drawn, frame, section
from console.reading import red
from console.reading.exposition import Exposition
from console.reading.memory import ServerMemory, memory
from console.reading.queues import Queue, queues
from console.reading.red import RedLine
from console.reading.servers import Machine
from console.reading.stream import StreamWork, stream_work
from console.reading.traffic import Stage, Traffic, batch_stages, traffic
from release.status import ColourStatus, ReleaseStatus
from release.status import status as release_status

_QUICK, _SLOW = 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that the page shows, each part read by itself: one that fails leaves the others."""

    at: datetime
    status: Reading[ReleaseStatus]
    service: Reading[Sequence[Exposition]]
    stream: Reading[Sequence[Exposition]]
    work: Reading[StreamWork]
    queues: Reading[tuple[Queue, ...]]
    memory: Reading[tuple[ServerMemory, ...]]
    machine: Reading[Machine]


async def moment_of(desk: Desk) -> Moment:
    """Read all parts at once."""
    sources, readings = desk.sources, desk.readings
    status, work, waiting, used = await asyncio.gather(
        readings.read("status", lambda: release_status(sources.release_context()), fresh=_SLOW),
        readings.read("work", lambda: stream_work(sources.lake, sources.clock()), fresh=_QUICK),
        readings.read("queues", lambda: queues(sources.settings, sources.sqs), fresh=_SLOW),
        readings.read("memory", lambda: memory(sources), fresh=_SLOW),
    )
    service, stream, machine = await asyncio.gather(desk.service(), desk.stream(), desk.machine())
    return Moment(sources.clock(), status, service, stream, work, waiting, used, machine)


def register(desk: Desk) -> None:
    """Make the page."""

    @ui.page("/", title="Now · Stillpoint", response_timeout=30)
    async def now(request: Request) -> None:
        lead = "Which release is live, how fresh its features are, and what is wrong."
        with frame(desk, request, "/", "Now", lead=lead):
            await section(lambda: moment_of(desk), draw)


def draw(found: Moment) -> Markup:
    """Draw the page."""
    return join(
        _reds(red_lines(found)),
        drawn(found.status, lambda status: _colours(status, found.work.value, found.at)),
        columns(
            _traffic(found),
            _stream(found),
        ),
        _stages(found),
        columns(_queues(found), _servers(found)),
    )


def red_lines(found: Moment) -> list[RedLine]:
    """Return what is red, the severe first; what cannot be read is red too."""
    lines: list[RedLine] = []
    if found.machine.value is not None:
        lines += red.of_servers(found.machine.value.servers, found.machine.value.processes)
    running = False
    if found.status.value is not None:
        lines += red.of_release(found.status.value)
        running = found.status.value.stream is not None
    if found.work.value is not None:
        lines += red.of_stream(found.work.value, found.at, running=running)
    if found.queues.value is not None:
        lines += red.of_queues(found.queues.value)
    if found.memory.value is not None:
        lines += red.of_memory(found.memory.value)
    if found.service.value is not None and (counted := traffic(found.service.value)) is not None:
        lines += red.of_traffic(counted)
    parts: dict[str, Reading[ReleaseStatus] | Reading[tuple[Queue, ...]] | Reading[tuple[ServerMemory, ...]]] = {
        "the release": found.status,
        "the queues": found.queues,
        "Redis' memory": found.memory,
    }
    lines += [
        RedLine("SourceAway", f"{name[:1].upper()}{name[1:]} cannot be read: {one.trouble.sentence}")
        for name, one in parts.items()
        if one.trouble is not None
    ]
    if found.service.trouble is not None:
        lines.append(RedLine("NobodyServes", found.service.trouble.sentence))
    return sorted(lines, key=lambda line: not line.severe)


def _reds(lines: Sequence[RedLine]) -> Markup:
    if not lines:
        return panel("Nothing is red", aside=badge("all well", Tone.GOOD), key="reds")
    rows = (
        tag(
            "li",
            badge("page", Tone.BAD) if line.severe else badge("ticket", Tone.WARN),
            tag("span", prose(line.sentence)),
            link("How to mend it", f"/runbook/{line.page}"),
        )
        for line in lines
    )
    title = "1 thing is red" if len(lines) == 1 else f"{len(lines)} things are red"
    return panel(title, tag("ul", rows, class_="reds"), key="reds")


def _colours(status: ReleaseStatus, work: StreamWork | None, at: datetime) -> Markup:
    return tag("div", (_colour(one, status) for one in status.colours), class_="columns stretch", data_key="colours")


def _colour(one: ColourStatus, status: ReleaseStatus) -> Markup:
    state = badge("live", Tone.GOOD) if one.live else badge((one.state or "empty").replace("_", " "))
    if one.release is None:
        return panel(
            str(one.colour).capitalize(),
            empty("Nothing lies here. ", prose("`stillpoint release prepare` fills the idle colour.")),
            aside=state,
        )
    ages = {name: seconds for name, seconds in status.newest_row_age_seconds.items() if seconds is not None}
    freshest = min(ages.values(), default=None)
    told: list[tuple[str, Child]] = [
        (
            "release",
            join(link(one.release, f"/releases/{one.release}"), " prepared ", moment(one.prepared_at, seconds=False)),
        ),
        ("models", join(*_models(one.models))),
        ("id mapping", join(f"{one.mapping_version or NOTHING}, fill marker: {one.sentinel}")),
        ("stream writes", "yes" if one.streamed_into else "no"),
        ("served by", f"{len(one.served_by)} processes" if one.served_by else "nobody"),
        ("memory", f"{size(one.bytes_per_user)} a user" if one.bytes_per_user else NOTHING),
    ]
    if one.problem:
        told.append(("problem", badge(one.problem, Tone.BAD)))
    views = table(
        ["view", Column("entities", number=True), Column("newest row in the lake", number=True)],
        (
            [name, count(held), f"{age(ages[name])} ago" if name in ages else NOTHING]
            for name, held in one.per_view.items()
        ),
        f"Views of {one.colour}",
    )
    return tag(
        "section",
        tag("header", tag("h2", colour_name(str(one.colour))), state),
        figures(
            *(
                figure(f"{name.removesuffix('_id')}s", count(held))
                for name, held in sorted(one.entities.items(), reverse=True)
            ),
            figure("newest row", age(freshest), "old" if freshest is not None else ""),
        ),
        facts(told),
        folded("Views", views, key="views") if one.per_view else None,
        class_="panel live" if one.live else "panel",
        data_key=str(one.colour),
    )


def _models(models: dict[str, str]) -> list[Child]:
    by_digest: dict[str, list[str]] = {}
    for kind, digest in models.items():
        by_digest.setdefault(digest, []).append(kind)
    return [join(code(short(digest)), f" {', '.join(kinds)} ") for digest, kinds in by_digest.items()] or [NOTHING]


def _traffic(found: Moment) -> Markup:
    def told(series: Sequence[Exposition]) -> Child:
        counted = traffic(series)
        if counted is None:
            return empty("The service was not asked yet.")
        return join(_served(counted))

    return panel("Predictions", drawn(found.service, told), note="of the HTTP service", key="traffic")


def _served(counted: Traffic) -> Markup:
    return join(
        figures(
            figure("answered", rate(counted.predictions_per_second), "a second"),
            figure("failed", rate(counted.failed_per_second), "a second"),
            figure("fallbacks", share(counted.fallback_share)),
            figure("in flight", count(counted.in_flight)),
        ),
        sparkline(counted.series, "Predictions a second over the last quarter of an hour"),
        tag(
            "p",
            f"Answers with {', '.join(counted.releases) or 'no release'}; the guard refused {count(counted.refusals)}, "
            f"{count(counted.saturated)} requests were turned away at the limit.",
            class_="note",
        ),
    )


def _stream(found: Moment) -> Markup:
    def told(work: StreamWork) -> Child:
        if work.last_commit is None:
            return empty("The stream has committed nothing yet.")
        return join(
            figures(
                figure("events", rate(work.events_per_second), "a second"),
                figure("newest arrival", _ago(work.newest_arrival, found.at)),
                figure("quarantined", share(work.quarantined_share)),
                figure("micro-batches", count(work.batches)),
            ),
            sparkline(work.per_second, "Events a second over the last quarter of an hour"),
            tag("p", *_verdicts(work), class_="note"),
        )

    return panel("Events", drawn(found.work, told), note="of the stream, last 15 min", key="stream")


def _ago(at: datetime | None, now: datetime) -> str:
    return NOTHING if at is None else age((now - at) / timedelta(seconds=1))


def _verdicts(work: StreamWork) -> list[Child]:
    told = ", ".join(f"{count(number)} {name.replace('_', ' ')}" for name, number in work.lately)
    return [f"Verdicts: {told}."]


def _stages(found: Moment) -> Markup:
    parts: list[Stage] = []
    notes: list[Child] = []
    if found.service.value is not None and (counted := traffic(found.service.value)) is not None:
        parts += [*counted.stages, *(one for one in counted.routes if one.where.startswith(("GET /v1", "POST")))]
    if found.stream.value is not None:
        parts += batch_stages(found.stream.value)
    elif found.stream.trouble is not None:
        notes.append(tag("p", prose(found.stream.trouble.sentence), class_="note"))
    rows = (
        [
            join(_stage(one), " ", under(one.where.replace("_", " "))),
            milliseconds(one.seconds.p50),
            milliseconds(one.seconds.p95),
            milliseconds(one.seconds.p99),
            count(one.seconds.count),
        ]
        for one in parts
    )
    heads = [
        Column("stage"),
        *(Column(name, number=True) for name in ("p50", "p95", "p99", "of")),
    ]
    body = table(heads, rows, "Milliseconds by stage") if parts else empty("No stage was timed yet.")
    return panel("Milliseconds by stage", body, *notes, note="last 15 min, else since the start", key="stages")


def _stage(one: Stage) -> str:
    return f"whole answer, {one.name}" if one.where.startswith(("GET", "POST")) else one.name


def _queues(found: Moment) -> Markup:
    def told(waiting: tuple[Queue, ...]) -> Child:
        return table(
            ["queue", *(Column(name, number=True) for name in ("waiting", "in work"))],
            (
                [
                    join(one.name, " ", under(one.what)),
                    badge(count(one.waiting), Tone.BAD) if one.dead_letters and one.waiting else count(one.waiting),
                    count(one.in_work),
                ]
                for one in waiting
            ),
            "Queues",
        )

    return panel("Queues and dead letters", drawn(found.queues, told), note="as SQS counts, about", key="queues")


def _servers(found: Moment) -> Markup:
    def told(machine: Machine) -> Child:
        rows: list[tuple[str, str | None, str, str | None]]
        rows = [(one.title, one.address, one.health, one.version) for one in machine.servers]
        rows += [(one.role, one.address, one.health, f"process {one.pid}") for one in machine.processes]
        return table(
            ["server", "health", Column("version", wide=True)],
            (
                [join(title, " ", under(address)), _health(health), version or NOTHING]
                for title, address, health, version in rows
            ),
            "Servers and processes",
        )

    def used(servers: tuple[ServerMemory, ...]) -> Child:
        return join(*(_memory(one) for one in servers))

    return panel("Servers", drawn(found.machine, told), drawn(found.memory, used), key="servers")


def _health(health: str) -> Markup:
    return badge(health, Tone.GOOD if health in ("up", "running") else Tone.BAD if health == "down" else Tone.WARN)


def _memory(one: ServerMemory) -> Markup:
    limit = f"of {size(one.limit)}" if one.limit else "without a limit"
    return tag(
        "div",
        tag(
            "p",
            f"Redis at {one.server}: {size(one.used)} {limit}, {one.policy}, {count(one.evicted)} evicted",
            class_="note",
        ),
        meter(one.filled, "Memory used", tone="bad" if one.filled > red.FULL else "")
        if one.filled is not None
        else None,
    )
