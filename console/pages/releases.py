"""The pages of releases: all of them with their history, and one with its gate, models, changes and verbs."""

from fastapi import Request
from nicegui import ui

from console.access import Access
from console.desk import Desk
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
    folded,
    link,
    panel,
    prose,
    table,
)
from console.drawing.words import NOTHING, moment, share, short
from console.live.readings import Reading
from console.pages.frame import drawn, frame, section
from console.pages.release_verbs import act_of, buttons, running
from console.reading.changes import Changes, changes
from console.reading.releases import Book, ModelEvaluation, ReleaseDetail, ReleaseLine, book, detail, failures
from release.gate import Report
from release.status import Event

_SHOWN_EVENTS = 60


def register(desk: Desk) -> None:
    """Make both pages."""

    @ui.page("/releases", title="Releases · Stillpoint", response_timeout=30)
    async def releases(request: Request) -> None:
        lead = "Every release, who made it live and why. A release pairs a colour's features with the models trained for them."
        with frame(desk, request, "/releases", "Releases", lead=lead):
            await section(lambda: desk.readings.read("book", lambda: book(desk.sources), fresh=2.0), _book, every=3.0)

    @ui.page("/releases/{release_id}", title="A release · Stillpoint", response_timeout=30)
    async def one(request: Request, release_id: str) -> None:
        with frame(desk, request, "/releases", f"Release {release_id[:32]}") as access:
            await _one(desk, access, release_id)


async def _one(desk: Desk, access: Access, release_id: str) -> None:
    async def read() -> Reading[ReleaseDetail]:
        return await desk.readings.read(f"release:{release_id}", lambda: detail(desk.sources, release_id), fresh=2.0)

    async def run() -> Markup:
        return running(desk.runs.look(), release_id)

    first = await read()
    act = act_of(desk, access, release_id)
    await section(run, lambda drawn_already: drawn_already, every=0.5)
    await section(read, lambda found: _detail(found, admin=access.admin), every=2.0, act=act)
    if first.value is not None and first.value.previous is not None and first.value.record is not None:
        previous = first.value.previous
        await section(
            lambda: desk.readings.read(
                f"changes:{release_id}", lambda: changes(desk.sources, release_id, previous), fresh=30.0
            ),
            lambda found: drawn(found, _changes),
            every=60.0,
        )
    await section(read, lambda found: Markup("") if found.value is None else _done(found.value), every=3.0)


def _done(one: ReleaseDetail) -> Markup:
    return panel("What was done", _events(one.steps), key="steps")


def _book(found: Reading[Book]) -> Markup:
    nothing = panel(
        "No release yet",
        empty(
            prose("`stillpoint train` makes a model, `stillpoint release prepare --model SHA256` the first release.")
        ),
    )
    return drawn(found, lambda one: _lists(one) if one.lines else nothing)


def _lists(one: Book) -> Markup:
    rows = (
        [
            link(line.id, f"/releases/{line.id}"),
            _state(line),
            colour_name(line.colour),
            moment(line.at, seconds=False),
            f"{line.ndcg:.3f}" if line.ndcg is not None else NOTHING,
            str(line.mapping_version),
            line.why,
            line.by,
        ]
        for line in one.lines
    )
    heads: list[Column | str] = [
        "release", "state", "colour", "prepared (UTC)", Column("NDCG@3", number=True), Column("mapping", number=True),
        Column("why", wide=True), Column("by", wide=True),
    ]  # fmt: skip
    return join(
        panel("Releases", table(heads, rows, "Releases")),
        panel(
            "History",
            _events(one.events[:_SHOWN_EVENTS]),
            note=f"the newest {_SHOWN_EVENTS} of {len(one.events)}" if len(one.events) > _SHOWN_EVENTS else None,
        ),
    )


def _state(line: ReleaseLine) -> Markup:
    return badge("live", Tone.GOOD) if line.live else badge((line.state or "intended").replace("_", " "))


def _events(events: tuple[Event, ...]) -> Markup:
    rows = (
        [
            moment(one.at),
            link(one.release, f"/releases/{one.release}"),
            one.what.replace("_", " "),
            one.why,
            one.by,
        ]
        for one in events
    )
    return table(
        ["when (UTC)", "release", "what", Column("why", wide=True), Column("by", wide=True)],
        rows,
        "History of releases",
    )


def _detail(found: Reading[ReleaseDetail], *, admin: bool) -> Markup:
    if found.trouble is not None and found.trouble.unknown:
        return panel(
            "There is no such release", empty(prose(found.trouble.sentence)), link("All releases", "/releases")
        )
    return drawn(found, lambda one: _whole(one, admin=admin))


def _whole(one: ReleaseDetail, *, admin: bool) -> Markup:
    state = (
        badge("live", Tone.GOOD)
        if one.live
        else badge((one.state.value if one.state else "intended").replace("_", " "))
    )
    told: list[tuple[str, Child]] = [
        ("colour", colour_name(str(one.intent.colour))),
        ("prepared", join(moment(one.intent.at), " by ", one.intent.by)),
        ("why", one.intent.why),
        ("id mapping", str(one.intent.mapping_version)),
        ("features of", one.intent.feature_service),
    ]
    if one.intent.shares:
        told.append(("shares", join("the features of ", link(one.intent.shares, f"/releases/{one.intent.shares}"))))
    if one.record is not None:
        told += [
            ("registry", code(short(one.record.registry_sha256))),
            ("definitions", code(short(one.record.definitions_sha256))),
            ("read plan", code(short(one.record.read_plan_sha256))),
            ("snapshot", code(one.record.snapshot_id)),
        ]
    return join(
        columns(
            panel("What it is", facts(told), aside=state, key="what"),
            tag(
                "div",
                buttons(one, admin=admin),
                *(_model(model) for model in one.models),
                class_="stack",
                data_key="side",
            ),
        ),
        _gate(one.report, one.intent.id),
    )


def _model(model: ModelEvaluation) -> Markup:
    answers = f"answers {', '.join(model.kinds)}" + (
        f", behind the endpoint {model.endpoint}" if model.endpoint else ""
    )
    if not model.judged:
        return panel(f"Model {short(model.sha256)}", empty("No evaluation of this model is stored."), note=answers)
    top = max(one.high for one in model.judged) or 1.0
    rows = (
        [
            one.ranking.replace("_", " "),
            tag(
                "span",
                tag(
                    "span",
                    style=f"left:{100 * one.low / top:.1f}%;width:{100 * (one.high - one.low) / top:.1f}%",
                    class_="range",
                ),
                tag("span", style=f"left:{100 * one.value / top:.1f}%", class_="mean"),
                class_="interval",
                role="img",
                aria_label=f"{one.value:.3f}, between {one.low:.3f} and {one.high:.3f}",
            ),
            f"{one.value:.3f}",
        ]
        for one in model.judged
    )
    return panel(
        f"Model {short(model.sha256)}",
        table(["ranking", Column("", wide=True), Column("NDCG@3", number=True)], rows, "Evaluation against baselines"),
        tag(
            "p",
            f"On {model.judged[0].lists:,} held-out lists of snapshot {model.snapshot_id} ({model.data} behaviour), "
            "with 95 % intervals.",
            class_="note",
        ),
        note=answers,
        key=model.sha256,
    )


def _gate(report: Report | None, release_id: str) -> Markup:
    if report is None:
        return panel(
            "Gate",
            empty(prose(f"{release_id} was never checked. `stillpoint release check {release_id}` runs the gate.")),
        )
    rows = (
        [
            badge("green", Tone.GOOD) if one.passed else badge("red", Tone.BAD),
            one.name,
            join(one.found, _examples(one.examples)),
            prose(one.expected),
        ]
        for one in failures(report)
    )
    against = f", against {report.against}" if report.against else ""
    return panel(
        "Gate",
        table(["", "check", Column("found", wide=True), Column("expected", wide=True)], rows, "Checks of the gate"),
        note=join("checked ", moment(report.at), f" by {report.by}{against}"),
        aside=badge("all green", Tone.GOOD) if report.passed else badge(f"{len(report.failures())} red", Tone.BAD),
        key="gate",
    )


def _examples(examples: tuple[str, ...]) -> Child:
    if not examples:
        return None
    return folded(f"{len(examples)} examples", tag("ul", (tag("li", tag("small", one)) for one in examples)))


def _changes(one: Changes) -> Markup:
    before, after = one.mapping
    told: list[tuple[str, Child]] = [
        ("features added", _named(one.added)),
        ("features removed", _named(one.removed)),
        ("id mapping", f"{before}, as before" if before == after else f"{before} → {after}"),
        ("models", join(*(tag("div", f"{kind}: {short(old)} → {short(new)}" if old != new else f"{kind}: {short(new)}, as before") for kind, old, new in one.models))),
    ]  # fmt: skip
    rows = (
        [link(user.user_id, f"/user?id={user.user_id}"), _titles(user.before), _titles(user.after), share(user.overlap)]
        for user in one.lists
    )
    lists = (
        table(
            ["canary user", Column(f"first three in {one.against}", wide=True), Column("first three here", wide=True),
             Column("of the first ten stay", number=True)],
            rows,
            "Lists of canary users",
        )
        if one.lists
        else empty(one.why_no_lists or "There are no canary users.")
    )  # fmt: skip
    return panel(f"What changed against {one.against}", facts(told), lists, key="changes")


def _named(features: tuple[str, ...]) -> Child:
    return join(*(join(code(one), " ") for one in features)) if features else "none"


def _titles(titles: tuple[str, ...]) -> Markup:
    return join(*(tag("div", title) for title in titles))
