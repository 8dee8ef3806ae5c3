"""Export and erasure on a user's page: the typed confirmation, the steps, and the receipt."""

from collections.abc import Awaitable, Callable, Mapping

from console.access import Access
from console.desk import Desk
from console.drawing.html import Child, Markup, join, tag
from console.drawing.parts import Tone, alarm, badge, empty, panel, prose, table
from console.drawing.words import NOTHING, count, moment
from console.live.element import Act
from console.pages.frame import told
from privacy.erasure.receipt import Receipt


def erasure_form(user_id: str, *, admin: bool) -> Markup:
    """Return the ways to export and to erase, for those who may."""
    if not admin:
        return panel("Export and erase", empty("Both need a token with the scope admin."))
    form = tag(
        "form",
        tag("h2", f"Erase {user_id}", id="erase-title"),
        tag("p", "Everywhere: features, lists, events, training sets. It cannot be undone; a receipt says what was removed.", class_="note"),
        tag(
            "div",
            tag("label", f"Type {user_id} to confirm", for_="erase-typed"),
            tag("input", type="text", id="erase-typed", name="typed", required=True, pattern=user_id, autocomplete="off", spellcheck="false"),
            class_="field",
        ),
        tag(
            "div",
            tag("button", "Cancel", type="button", class_="act", data_close=""),
            tag("button", "Erase", class_="act risky"),
            class_="acts",
        ),
        data_action="erase",
    )  # fmt: skip
    return panel(
        "Export and erase",
        tag(
            "div",
            tag("a", "Export as a zip", href=f"/user/export?id={user_id}", class_="act", download=True),
            tag("button", "Erase …", type="button", class_="act risky", data_dialog="erase"),
            class_="acts",
        ),
        tag("dialog", form, id="erase", aria_labelledby="erase-title"),
    )


def erasure_act(desk: Desk, access: Access, user_id: str, refresh: Callable[[], Awaitable[None]]) -> Act:
    """Return what the form does. The token is asked again, and the id must be typed."""

    async def act(given: Mapping[str, str]) -> None:
        if given.get("action") == "erase" and access.admin and given.get("typed", "").strip() == user_id:
            desk.erasures.begin(user_id, by=access.who)
            await refresh()

    return act


async def erasure_state(desk: Desk, user_id: str) -> Markup:
    """Draw the erasure of a user that this console has begun, if there is one."""
    run = desk.erasures.runs.get(user_id)
    if run is None:
        return Markup("")
    if run.trouble is not None:
        return panel("Erasure", told(run.trouble), aside=badge("not done", Tone.BAD), key="erasure")
    if run.receipt is None:
        return panel("Erasure", tag("p", f"{run.step} …", role="status"), aside=badge("runs", Tone.WARN), key="erasure")
    return _receipt(run.receipt)


def _receipt(receipt: Receipt) -> Markup:
    said = (
        join("Erased up to ", moment(receipt.erased_until), " UTC.")
        if receipt.found
        else "Nothing of this user was found; a tombstone keeps late events of theirs out."
    )
    parts: list[Child] = [alarm(said, tone=Tone.GOOD)]
    if receipt.removed:
        rows = ([one.place, f"{count(one.count)} {one.what}"] for one in receipt.removed)
        parts.append(table(["where", "removed"], rows, "Removed"))
    if receipt.remaining:
        left = ([one.place, moment(one.until) if one.until else NOTHING, prose(one.why)] for one in receipt.remaining)
        parts.append(table(["may still hold something", "until (UTC)", "why"], left, "Remaining copies"))
    for title, names in (
        ("Snapshots revised", receipt.revised_snapshots),
        ("Models trained on this user's data; retrain to replace them", receipt.models),
        ("Left as they are", receipt.skipped),
    ):
        if names:
            parts.append(tag("p", f"{title}: {', '.join(names)}", class_="note"))
    return panel("Receipt", *parts, note=join("finished ", moment(receipt.finished_at)), key="erasure")
