"""The page Try it: a deed of a user, and what it changes, with milliseconds by stage."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from nicegui import ui

from console.access import Access
from console.desk import Desk
from console.drawing.html import Markup, join, tag
from console.drawing.parts import Column, Tone, badge, columns, empty, link, panel, table
from console.drawing.words import value
from console.live.element import LiveHtml
from console.pages.frame import Section, frame, section, told
from console.reading.trial import LONGEST_QUERY, Deed, Moved, Place, Trial, is_sandbox, try_it
from console.reading.user import checked_user, some_user_ids
from console.trouble import Trouble, trouble
from inference.scopes import Scope

_DEEDS = {
    Deed.SEARCH: "Search",
    Deed.ABANDON: "Abandon three sleep stories",
    Deed.WALK: "Walk with a rising pulse",
}
_TOLD = {
    Deed.SEARCH: "searched",
    Deed.ABANDON: "started three sleep stories and left each after twelve seconds",
    Deed.WALK: "got up and walked; the watch reported pulse and steps",
}


@dataclass(slots=True)
class Trying:
    """What one open page is doing."""

    deed: Deed | None = None
    runs: bool = False
    trial: Trial | None = None
    trouble: Trouble | None = None


def register(desk: Desk) -> None:
    """Make the page."""

    @ui.page("/try", title="Try it · Stillpoint", response_timeout=30)
    async def page(request: Request) -> None:
        lead = "Do what a user of the app would do, and watch: the events take their normal way through intake, stream and worker."
        with frame(desk, request, "/try", "Try it", lead=lead) as access:
            if not is_sandbox(desk.sources):
                said = "The event stream is a real one, and trying would send events of real users; this page is for the sandbox and the demo."
                LiveHtml(panel("Not here", empty(said)))
                return
            if not access.may(Scope.WRITE_EVENTS):
                LiveHtml(
                    panel(
                        "Not with this token",
                        empty("Sending events needs a token with the scope write-events or admin."),
                    )
                )
                return
            await _page(desk, access)


async def _page(desk: Desk, access: Access) -> None:
    trying = Trying()
    known = await desk.readings.read("some users", lambda: some_user_ids(desk.sources), fresh=60.0)
    ids = known.value or ()
    sections: list[Section[Trying]] = []

    async def act(given: Mapping[str, str]) -> None:
        if trying.runs:
            return
        trying.deed, trying.runs, trying.trouble = Deed(given.get("deed", Deed.SEARCH)), True, None
        await sections[0].refresh()
        try:
            user_id = checked_user(given.get("user", ""))
            deed, query = trying.deed, given.get("query", "")
            trying.trial = await desk.readings.run(
                lambda: try_it(desk.sources, deed, user_id, query, authorization=access.authorization)
            )
        except Exception as error:  # noqa: BLE001  told as a sentence
            trying.trial, trying.trouble = None, trouble(error)
        finally:
            trying.runs = False
        await sections[0].refresh()

    LiveHtml(_form(ids) if known.trouble is None else told(known.trouble), act=act)

    async def read() -> Trying:
        return trying

    sections.append(await section(read, _drawn, every=None))


def _form(ids: tuple[str, ...]) -> Markup:
    return tag(
        "section",
        tag("header", tag("h2", "A user …")),
        tag(
            "form",
            tag(
                "div",
                tag("label", "User", for_="try-user"),
                tag("input", type="text", id="try-user", name="user", value=ids[0] if ids else None, list="try-users", required=True, autocomplete="off"),
                tag("datalist", (tag("option", value=one) for one in ids), id="try-users"),
                class_="field short",
            ),
            tag(
                "div",
                tag("label", "searches for", for_="try-query"),
                tag("input", type="text", id="try-query", name="query", value="preparing for big exam", maxlength=LONGEST_QUERY, autocomplete="off"),
                class_="field",
            ),
            *(
                tag("button", name, class_="act first" if deed is Deed.SEARCH else "act", name="deed", value=deed.value)
                for deed, name in _DEEDS.items()
            ),
            class_="fields",
            data_action="try",
            data_keep="",
        ),
        class_="panel",
    )  # fmt: skip


def _drawn(trying: Trying) -> Markup:
    if trying.runs:
        return panel(
            "Under way", tag("p", "The events are sent; features and list are awaited …", role="status"), key="trial"
        )
    if trying.trouble is not None:
        return told(trying.trouble)
    if trying.trial is None:
        return panel(
            "What you will see",
            empty("The list before and after, the features that moved, and how many milliseconds each stage took. A list changes in a second or two."),
            key="trial",
        )  # fmt: skip
    return _trial(trying.trial)


def _trial(trial: Trial) -> Markup:
    stages = [
        ("events accepted", trial.accepted_ms),
        ("features readable", trial.readable_ms),
        ("list stored", trial.stored_ms),
    ]
    steps = (
        tag("li", tag("span", f"{milliseconds:,.0f} ms", class_="number"), tag("span", name, class_="label"))
        for name, milliseconds in stages
    )
    new = sum(place.was is None for place in trial.after)
    return join(
        panel(
            f"{trial.user_id} {_TOLD[trial.deed]}",
            tag("ol", steps, class_="steps"),
            tag("p", f"{trial.events} event{'s were' if trial.events > 1 else ' was'} sent; {new} of {len(trial.after)} places hold contents that were not on the list before.", class_="note"),
            aside=link("Why this list?", f"/user?id={trial.user_id}"),
            key="stages",
        ),
        columns(
            panel("Before", _list(trial.before, moved=False), note=trial.kind.value, key="before"),
            panel("After", _list(trial.after, moved=True), note=trial.kind.value, key="after"),
        ),
        panel("Features that moved", _features(trial.features), key="moved"),
    )  # fmt: skip


def _list(places: tuple[Place, ...], *, moved: bool) -> Markup:
    if not places:
        return empty("The list is empty.")
    rows = (
        tag(
            "li",
            tag("span", one.title, " ", tag("small", one.category), class_="item"),
            _move(one, place) if moved else None,
            class_="new" if moved and one.was is None else None,
        )
        for place, one in enumerate(places, 1)
    )
    return tag("ol", rows, class_="ranking")


def _move(one: Place, place: int) -> Markup:
    if one.was is None:
        return badge("new", Tone.ACCENT)
    if one.was == place:
        return tag("span", "")
    return tag("span", f"{'↑' if place < one.was else '↓'} from {one.was}", class_="quiet")


def _features(features: tuple[Moved, ...]) -> Markup:
    rows = (
        [
            one.name,
            value(one.before),
            tag("span", value(one.after), class_="changed" if one.after != one.before else None),
        ]
        for one in features
    )
    return table(
        [Column("feature"), Column("before", wide=True), Column("after", wide=True)], rows, "Features that moved"
    )
