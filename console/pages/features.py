"""The pages of features: the catalogue with a search, and one view with its lineage, values and drift."""

from fastapi import Request
from nicegui import ui

from console.desk import Desk
from console.drawing.charts import two_distributions
from console.drawing.html import Child, Markup, join, tag
from console.drawing.parts import Column, Tone, badge, code, empty, link, panel, prose, table, under
from console.drawing.words import NOTHING, age, moment, share, value
from console.live.element import LiveHtml
from console.live.readings import Reading
from console.pages.frame import drawn, frame, section
from console.reading.catalogue import FeatureLine, Lineage, catalogue, lineage, view_named
from console.reading.distribution import FeatureValues, ViewValues, view_values
from console.sources import Sources
from stillpoint.app.records import View
from stillpoint.errors import NotFound

_ORIGINS = {
    "streamed": "computed from events as they arrive",
    "daily": "computed once a day",
    "mapping": "given by training",
}


def register(desk: Desk) -> None:
    """Make both pages."""

    @ui.page("/features", title="Features · Stillpoint", response_timeout=30)
    async def features(request: Request, q: str = "") -> None:
        lead = "What is known of users and contents, as it is declared. A view is stored and fresh as a whole."
        with frame(desk, request, "/features", "Features", lead=lead):
            LiveHtml(_search(q))
            await section(
                lambda: desk.readings.read("catalogue", lambda: catalogue(desk.sources), fresh=60.0),
                lambda found: drawn(found, lambda lines: _catalogue(desk.sources, lines, q)),
                every=None,
            )

    @ui.page("/features/{name}", title="A view · Stillpoint", response_timeout=30)
    async def one(request: Request, name: str) -> None:
        try:
            declared = view_named(desk.sources, name)
        except NotFound as error:
            with frame(desk, request, "/features", "Features"):
                LiveHtml(panel("There is no such view", empty(prose(f"{error}.")), link("All features", "/features")))
            return
        with frame(desk, request, "/features", declared.name, lead=declared.description):
            await _one(desk, declared)


async def _one(desk: Desk, declared: View) -> None:
    await section(
        lambda: desk.readings.read(f"lineage:{declared.name}", lambda: lineage(desk.sources, declared), fresh=30.0),
        lambda found: drawn(found, lambda one: _lineage(one, declared)),
        every=30.0,
    )
    await section(
        lambda: desk.readings.read(f"values:{declared.name}", lambda: view_values(desk.sources, declared), fresh=10.0),
        lambda found: _values(found, declared),
        every=10.0,
    )


def _search(words: str) -> Markup:
    return tag(
        "form",
        tag(
            "div",
            tag("label", "Search names, meanings, units and owners", for_="q"),
            tag("input", type="search", id="q", name="q", value=words or None, autocomplete="off"),
            class_="field",
        ),
        tag("button", "Search", class_="act"),
        class_="fields",
        action="/features",
        method="get",
        role="search",
    )


def _catalogue(sources: Sources, lines: tuple[FeatureLine, ...], words: str) -> Markup:
    fitting = [line for line in lines if line.fits(words)]
    if not fitting:
        return panel(
            "No feature fits",
            empty(f"None of {len(lines)} features speaks of “{words[:60]}”. "),
            link("All features", "/features"),
        )
    views = dict.fromkeys(line.view for line in fitting)
    return join(*(_view(view_named(sources, name), [line for line in fitting if line.view == name]) for name in views))


def _view(declared: View, lines: list[FeatureLine]) -> Markup:
    name = declared.name
    owned = any(line.owner for line in lines)
    rows = (
        [
            join(code(line.name), *([] if line.window is None else [" ", badge(line.window)])),
            line.meaning,
            join(line.unit, " ", under(line.type)),
            line.allowed or NOTHING,
            line.null_when or "never",
            *([line.owner or NOTHING] if owned else []),
        ]
        for line in lines
    )
    heads: list[Column | str] = [
        "feature",
        Column("meaning", wide=True),
        "unit",
        Column("allowed", wide=True),
        Column("null when", wide=True),
        *(["owner"] if owned else []),
    ]
    return panel(
        name,
        table(heads, rows, f"Features of {name}"),
        note=_about(declared) + ("" if owned else ", owner not declared"),
        aside=link("Values and lineage", f"/features/{name}"),
    )


def _about(declared: View) -> str:
    origin = _ORIGINS.get(declared.origin.value, declared.origin.value)
    ttl = "no time to live" if declared.ttl is None else f"served for {age(declared.ttl.total_seconds())}"
    return f"of a {declared.entity.name}, {origin}, {ttl}"


def _lineage(one: Lineage, declared: View) -> Markup:
    steps: list[tuple[str, tuple[str, ...]]] = [
        ("events", one.events),
        ("view", (one.view,)),
        ("services", one.services),
        ("computed at the request", one.derived),
        ("models that are live", one.models),
        ("kinds", one.kinds),
    ]
    drawn_steps = (
        tag("div", tag("span", name, class_="label"), (tag("span", each, class_="node") for each in held))
        for name, held in steps
        if held
    )
    nobody = None if one.models else empty("No live model reads it.")
    return panel("Lineage", tag("div", drawn_steps, class_="lineage"), nobody, note=_about(declared), key="lineage")


def _values(found: Reading[ViewValues], declared: View) -> Markup:
    def told(values: ViewValues) -> Child:
        if not values.rows:
            return panel(
                "Values", empty("The lake holds no row of this view of the last days: nothing was computed lately.")
            )
        head = panel(
            "Freshness",
            tag(
                "p",
                f"The newest row in the lake is {age(values.age_seconds)} old, of ",
                moment(values.newest),
                f" UTC. “Lately” are {values.of}. {values.why_not or f'They are compared with the training set {values.against}.'}",
            ),
        )
        return join(
            head, tag("div", (_feature(declared, one) for one in values.features), class_="columns", data_key="values")
        )

    return drawn(found, told)


def _feature(declared: View, one: FeatureValues) -> Markup:
    feature = next(each for each in declared if each.name == one.name)
    nulls = f"null in {share(one.null_share)} of the rows" + (
        f", in training {share(one.null_share_before)}" if one.null_share_before is not None else ""
    )
    plot = next((measure for measure in one.measures if measure.labels), None)
    parts: list[Child] = [tag("p", feature.description), tag("p", nulls, class_="note")]
    if plot is not None:
        parts.append(
            two_distributions(
                [label.removeprefix("up to ") for label in plot.labels],
                plot.before,
                plot.after,
                ("in training", "lately"),
                f"Distribution of {one.name}",
            )
        )
    if one.measures:
        rows = (
            [
                measure.measure,
                f"{measure.value:.3f}",
                f"{measure.limit:g}",
                badge("drifted", Tone.WARN) if measure.drifted else badge("stable", Tone.GOOD),
            ]
            for measure in one.measures
        )
        heads: list[Column | str] = ["measure", Column("value", number=True), Column("limit", number=True), ""]
        parts.append(table(heads, rows, f"Drift of {one.name}"))
    samples = (f"{value(each.value)}" for each in one.samples)
    parts.append(tag("p", "Newest values: ", ", ".join(samples) or NOTHING, class_="note"))
    return panel(
        one.name, *parts, note=feature.unit, aside=badge("drifted", Tone.WARN) if one.drifted else None, key=one.name
    )
