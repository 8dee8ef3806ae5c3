"""The page of one user: features, events, stored lists, why they are as they are, and erasure."""

import asyncio
from dataclasses import dataclass

from fastapi import Request
from nicegui import app, ui
from starlette.responses import RedirectResponse, Response

from console.access import Access
from console.audit import note
from console.desk import Desk
from console.drawing.charts import pushes
from console.drawing.html import Child, Markup, join, tag
from console.drawing.parts import Column, Tone, badge, columns, empty, panel, prose, table
from console.drawing.words import NOTHING, age, count, moment, value
from console.live.element import Act, LiveHtml
from console.live.readings import Reading
from console.pages.erasing import erasure_act, erasure_form, erasure_state
from console.pages.frame import access_of, drawn, frame, section, told
from console.reading.user import User, UserEvent, checked_user, events, some_user_ids, user
from console.reading.why import Why, why
from console.trouble import trouble
from inference.scopes import Scope
from stillpoint.audit.log import AuditAction
from stillpoint.errors import InvalidInput
from stillpoint.messages import Item, Kind, StoredRecommendation
from stillpoint.stores.reading.types import FieldStatus

_TONES = {"PRESENT": Tone.GOOD, "NULL_VALUE": Tone.QUIET, "NOT_FOUND": Tone.QUIET, "OUTSIDE_MAX_AGE": Tone.WARN}
_WORDS = {"PRESENT": "fresh", "NULL_VALUE": "null", "NOT_FOUND": "none", "OUTSIDE_MAX_AGE": "past its time"}


def register(desk: Desk) -> None:
    """Make the page, and the address that an export is taken from."""

    @ui.page("/user", title="A user · Stillpoint", response_timeout=30)
    async def page(request: Request, id: str = "") -> None:
        lead = "What is known of one user now, what was shown to them, and why."
        with frame(desk, request, "/user", f"User {id[:64]}" if id else "A user", lead=lead) as access:
            known = await desk.readings.read("some users", lambda: some_user_ids(desk.sources), fresh=60.0)
            LiveHtml(_search(id, known.value or ()))
            if not id:
                LiveHtml(panel("Whose?", _begin(known)))
                return
            try:
                checked_user(id)
            except InvalidInput as error:
                LiveHtml(panel("No such id", told(trouble(error))))
                return
            try:
                await desk.readings.run(lambda: note(desk.sources, AuditAction.READ, id, by=access.who))
            except Exception as error:  # noqa: BLE001  what cannot be noted is not shown
                LiveHtml(told(trouble(error)))
                return
            await _user(desk, access, id)

    @app.get("/user/export")
    async def export(request: Request, id: str = "") -> Response:
        access = access_of(request)
        if not access.may(Scope.ADMIN):
            return Response("an export needs a token with the scope admin", 403)
        from privacy.export import archived

        try:
            sources = desk.sources
            user_id = checked_user(id)
            await desk.readings.run(lambda: note(sources, AuditAction.EXPORT, user_id, by=access.who))
            data, counts = await desk.readings.run(
                lambda: archived(sources.settings, sources.lake, user_id, now=sources.clock())
            )
        except Exception as error:  # noqa: BLE001  told as a sentence, as on the pages
            return Response(trouble(error).sentence, 503)
        if not any(counts.values()):
            return Response(f"nothing is known of the user {user_id}", 404)
        headers = {"Content-Disposition": f'attachment; filename="export-{user_id}.zip"', "Cache-Control": "no-store"}
        return Response(data, headers=headers, media_type="application/zip")

    @app.get("/users/{user_id}")
    async def short(user_id: str) -> Response:
        return RedirectResponse(f"/user?id={user_id}" if user_id.isascii() else "/user")


@dataclass(frozen=True, slots=True)
class Known:
    """What the first part of the page shows."""

    user: Reading[User]
    events: Reading[tuple[UserEvent, ...]]


async def _user(desk: Desk, access: Access, user_id: str) -> None:
    sources, readings = desk.sources, desk.readings

    async def read() -> Known:
        found, happened = await asyncio.gather(
            readings.read(f"user:{user_id}", lambda: user(sources, desk.model.current(), user_id), fresh=1.0),
            readings.read(f"events:{user_id}", lambda: events(sources, user_id), fresh=3.0),
        )
        return Known(found, happened)

    async def explained() -> tuple[Reading[Why], ...]:
        return tuple(await asyncio.gather(*(_why(desk, user_id, kind) for kind in (Kind.TODAY, Kind.SLEEP))))

    await section(read, lambda known: _known(known, user_id), every=2.0)
    await section(explained, _whys, every=6.0)
    state = await section(lambda: erasure_state(desk, user_id), lambda drawn_already: drawn_already, every=1.0)
    act: Act = erasure_act(desk, access, user_id, state.refresh)
    element = LiveHtml(erasure_form(user_id, admin=access.admin), act=act)
    element.classes("erasing")


async def _why(desk: Desk, user_id: str, kind: Kind) -> Reading[Why]:
    def make() -> Why:
        return why(desk.sources, desk.model.current(), desk.model.history, desk.model.lookup, user_id, kind)

    return await desk.readings.read(f"why:{user_id}:{kind}", make, fresh=5.0)


def _search(user_id: str, known: tuple[str, ...]) -> Markup:
    return tag(
        "form",
        tag(
            "div",
            tag("label", "User id", for_="id"),
            tag("input", type="search", id="id", name="id", value=user_id or None, list="known", autocomplete="off", required=True),
            tag("datalist", (tag("option", value=one) for one in known), id="known"),
            class_="field",
        ),
        tag("button", "Look", class_="act"),
        class_="fields",
        action="/user",
        method="get",
        role="search",
    )  # fmt: skip


def _begin(known: Reading[tuple[str, ...]]) -> Markup:
    def some(ids: tuple[str, ...]) -> Child:
        if not ids:
            return empty(prose("The lake holds no users yet; `stillpoint events simulate` makes some."))
        links = (tag("li", tag("a", one, href=f"/user?id={one}")) for one in ids)
        return join(tag("p", "Some users of the lake, to begin with:"), tag("ul", links, class_="acts"))

    return drawn(known, some)


def _known(known: Known, user_id: str) -> Markup:
    found = known.user.value
    if found is not None and not found.known and not known.events.value:
        return panel(
            "Nobody of this id",
            empty(prose(f"Release {found.release} ({found.colour}) knows nothing of user `{user_id}`, and no event of the last week names them.")),
        )  # fmt: skip
    return join(
        columns(
            panel("Features", drawn(known.user, _features), note=None if found is None else f"in {found.colour}, {found.release}", key="features"),
            panel("Recent events", drawn(known.events, _events), note="of the last week, from the lake", key="events"),
        ),
        panel("Stored recommendations", drawn(known.user, lambda one: _stored(one.stored)), key="stored"),
    )  # fmt: skip


def _features(found: User) -> Child:
    parts: list[Child] = []
    for view in dict.fromkeys(one.view for one in found.features):
        own = [one for one in found.features if one.view == view]
        old = next((one.age_seconds for one in own if one.age_seconds is not None), None)
        told_age = "" if old is None else f"{age(old)} old"
        status = own[0].status if len({one.status for one in own}) == 1 else FieldStatus.PRESENT.name
        rows = ([tag("a", one.name, href=f"/features/{one.view}"), value(one.value)] for one in own)
        body = table(["feature", Column("value", number=True)], rows, f"Features of {view}")
        head = tag(
            "span",
            tag("strong", view),
            " ",
            badge(_WORDS.get(status, status.lower()), _TONES.get(status, Tone.QUIET)),
            " ",
            tag("span", told_age, class_="quiet"),
        )
        parts.append(tag("details", tag("summary", head), body, open=status == "PRESENT", class_="fold", data_key=view))
    return tag("div", parts, class_="stack tight")


def _events(happened: tuple[UserEvent, ...]) -> Child:
    if not happened:
        return empty("No event of this user of the last week is in the lake.")
    rows = (
        [moment(one.at), one.type.replace("_", " "), one.details or NOTHING, "" if one.verdict == "on_time" else badge(one.verdict, Tone.WARN)]
        for one in happened
    )  # fmt: skip
    return table(["when (UTC)", "event", Column("details", wide=True), ""], rows, "Recent events")


def _stored(stored: tuple[StoredRecommendation, ...]) -> Child:
    if not stored:
        return empty(
            "Nothing is stored for this user under the live release; the service answers popular contents until an event asks for a list."
        )
    return tag("div", (_one_stored(one) for one in stored), class_="columns three")  # fmt: skip


def _one_stored(one: StoredRecommendation) -> Markup:
    after = f"after {one.trigger.replace('_', ' ')}" if one.trigger else "on request"
    return tag(
        "div",
        tag("h3", one.kind.value),
        tag("p", moment(one.created_at), f", {after}", class_="note"),
        ranking(one.items),
        data_key=one.kind.value,
    )


def ranking(items: tuple[Item, ...]) -> Markup:
    """Draw a list of contents, best first."""
    rows = (
        tag("li", tag("span", one.title, class_="item"), badge(one.category), data_key=one.content_id) for one in items
    )
    return tag("ol", rows, class_="ranking")


def _whys(found: tuple[Reading[Why], ...]) -> Markup:
    return join(*(drawn(one, _explained) for one in found))


def _explained(one: Why) -> Markup:
    title = f"Why this: {one.kind.value}"
    if one.refusal is not None:
        return panel(title, empty(one.refusal), key=f"why {one.kind}")
    made = (
        join("the stored list, served ", moment(one.made), " UTC")
        if one.made is not None
        else "nothing stored is in the served log yet: the list as it would be made now"
    )
    items = tag(
        "div",
        *(
            tag("div", tag("h3", f"{place}. {each.item.title}"), pushes([(_named(name), amount) for name, amount in each.pushes], f"What each feature added to {each.item.title}"), class_="stack tight")
            for place, each in enumerate(one.explained, 1)
        ),
        class_="columns three",
    )  # fmt: skip
    return panel(
        title,
        items if one.explained else empty("The list is empty."),
        tag("p", "Log-odds that the features with most weight added to the score, by SHAP values of the model.", class_="note"),
        _without(one),
        note=made,
        key=f"why {one.kind}",
    )  # fmt: skip


def _named(feature: str) -> str:
    return feature.replace("_", " ")


def _without(one: Why) -> Child:
    if one.without is None:
        return tag("p", "There was no search in the day before, so there is none to leave out.", class_="note")
    was = {item.content_id: place for place, item in enumerate(one.items, 1)}
    same = [item.content_id for item in one.without] == [item.content_id for item in one.items]
    title = tag("h3", f"Without the last search, “{one.search}”")
    if same:
        return join(title, tag("p", "The list would have been the same.", class_="note"))
    rows = (
        tag(
            "li",
            tag("span", item.title, class_="item"),
            badge("only then", Tone.WARN) if item.content_id not in was else _moved(was[item.content_id], place),
            data_key=item.content_id,
        )
        for place, item in enumerate(one.without, 1)
    )
    lost = [item for item in one.items if item.content_id not in {each.content_id for each in one.without}]
    said = (
        f"{count(len(lost))} of {len(one.items)} items are there because of it: {', '.join(item.title for item in lost)}."
        if lost
        else "The same items, in another order."
    )
    return join(
        title,
        tag("p", said),
        columns(
            tag("div", tag("p", "as it was", class_="note"), ranking(one.items)),
            tag("div", tag("p", "as it would have been", class_="note"), tag("ol", rows, class_="ranking")),
        ),
    )


def _moved(was: int, place: int) -> Markup:
    if was == place:
        return tag("span", "", class_="quiet")
    return tag("span", f"{'↑' if place < was else '↓'} from {was}", class_="quiet")
