"""The verbs on a release's page: buttons, the typed confirmation of each, and a run with what the load sees meanwhile."""

from collections.abc import Mapping

from console.access import Access
from console.desk import Desk
from console.drawing.html import Child, Markup, join, tag
from console.drawing.parts import Tone, alarm, badge, empty, figure, figures, panel, prose
from console.drawing.words import count
from console.live.element import Act
from console.reading.releases import ReleaseDetail
from console.running import Run
from console.verbs import ReleaseVerb, VerbOrder
from stillpoint.cli.arguments import LONGEST_TEXT

_EFFECTS = {
    ReleaseVerb.CHECK: "Runs every check of the gate on it. It may take a minute; nothing that is live changes.",
    ReleaseVerb.SWITCH: "Every worker loads it, then it answers everybody. A load of 20 requests a second watches.",
    ReleaseVerb.ROLL_BACK: "Makes it live again, whatever the gate says. A load of 20 requests a second watches.",
    ReleaseVerb.RETIRE: "Ends it for good and empties its colour, if nothing else uses it. It never comes back.",
}


def buttons(one: ReleaseDetail, *, admin: bool) -> Markup:
    """Return the verbs that may be tried, each behind a confirmation in which the release's id is typed."""
    wanted = {
        ReleaseVerb.CHECK: one.verbs.check,
        ReleaseVerb.SWITCH: one.verbs.switch,
        ReleaseVerb.ROLL_BACK: one.verbs.roll_back,
        ReleaseVerb.RETIRE: one.verbs.retire,
    }
    offered = [verb for verb, may in wanted.items() if may]
    if not offered:
        return panel("Verbs", empty("It is live: switch to another release, or roll back to the one before." if one.live else "Nothing can be done with it any more."), key="verbs")  # fmt: skip
    if not admin:
        names = ", ".join(verb.value for verb in offered)
        return panel("Verbs", empty(f"Possible now: {names}. They need a token with the scope admin."), key="verbs")
    release_id = one.intent.id
    return panel(
        "Verbs",
        tag("div", (_button(verb, release_id) for verb in offered), class_="acts"),
        *(_dialog(verb, release_id) for verb in offered),
        key="verbs",
    )


def _button(verb: ReleaseVerb, release_id: str) -> Markup:
    look = {ReleaseVerb.SWITCH: "first", ReleaseVerb.ROLL_BACK: "first", ReleaseVerb.RETIRE: "risky"}.get(verb, "")
    return tag(
        "button",
        f"{verb.value.capitalize()} …",
        type="button",
        class_=f"act {look}".strip(),
        data_dialog=_id(verb, release_id),
    )


def _dialog(verb: ReleaseVerb, release_id: str) -> Markup:
    identity = _id(verb, release_id)
    fields: list[Child] = []
    if verb is not ReleaseVerb.CHECK:
        fields.append(_field(f"{identity}-why", "why", "Reason, which the history keeps", required=True))
    if verb is ReleaseVerb.SWITCH:
        fields.append(
            _field(f"{identity}-force", "force", "Only without a recent green report: why it is forced", required=False)
        )
    fields.append(
        _field(f"{identity}-typed", "typed", f"Type {release_id} to confirm", required=True, pattern=release_id)
    )
    form = tag(
        "form",
        tag("h2", f"{verb.value.capitalize()}: {release_id}", id=f"{identity}-title"),
        tag("p", _EFFECTS[verb], class_="note"),
        fields,
        tag(
            "div",
            tag("button", "Cancel", type="button", class_="act", data_close=""),
            tag("button", verb.value.capitalize(), class_="act risky" if verb is ReleaseVerb.RETIRE else "act first"),
            class_="acts",
        ),
        data_action=verb.value,
    )
    return tag("dialog", form, id=identity, aria_labelledby=f"{identity}-title", data_key=identity)


def _field(identity: str, name: str, label: str, *, required: bool, pattern: str | None = None) -> Markup:
    return tag(
        "div",
        tag("label", label, for_=identity),
        tag("input", type="text", id=identity, name=name, required=required, pattern=pattern, maxlength=LONGEST_TEXT,
            autocomplete="off", spellcheck="false", title=None if pattern is None else f"the release's id, {pattern}"),
        class_="field",
    )  # fmt: skip


def _id(verb: ReleaseVerb, release_id: str) -> str:
    return f"{verb.value.replace(' ', '-')}-{release_id}"


def act_of(desk: Desk, access: Access, release_id: str) -> Act:
    """Return what a form of this page does. The token is asked again, and the id must be typed."""

    async def act(given: Mapping[str, str]) -> None:
        verb = ReleaseVerb(given.get("action", ""))
        if not access.admin or given.get("typed", "").strip() != release_id:
            return
        why = " ".join(given.get("why", "").split())[:LONGEST_TEXT] or verb.value
        force = " ".join(given.get("force", "").split())[:LONGEST_TEXT] or None
        desk.runs.begin(
            VerbOrder(
                verb=verb,
                release=release_id,
                why=why,
                force=force,
                by=access.who,
                authorization=access.authorization,
            )
        )

    return act


def running(run: Run | None, release_id: str) -> Markup:
    """Draw a verb's run, while it runs and after its end, on whichever release it was begun."""
    if run is None:
        return Markup("")
    title = f"{run.verb.value.capitalize()} {run.release}"
    parts: list[Child] = []
    if run.seen is not None:
        parts.append(_seen(run))
    elif run.verb in (ReleaseVerb.SWITCH, ReleaseVerb.ROLL_BACK) and run.ended and run.trouble is None:
        parts.append(tag("p", "No service answered, so no load watched the move.", class_="note"))
    if run.outcome is not None:
        tone = Tone.GOOD if run.outcome.good else Tone.BAD
        parts.append(alarm(run.outcome.sentence, run.outcome.warning, tone=tone))
    elif run.trouble is not None:
        parts.append(alarm(prose(run.trouble.sentence), prose(run.trouble.advice) if run.trouble.advice else None))
    else:
        parts.append(tag("p", f"{run.steps[-1] if run.steps else 'begins'} …", role="status"))
    said = tag("ol", (tag("li", step) for step in run.steps), class_="note")
    parts.append(tag("details", tag("summary", f"{len(run.steps)} steps"), said, data_key="steps"))
    state = badge("runs", Tone.WARN) if not run.ended else badge("done", Tone.GOOD) if run.outcome and run.outcome.good else badge("not done", Tone.BAD)  # fmt: skip
    return join(panel(title, *parts, aside=state, key="run"))


def _seen(run: Run) -> Markup:
    seen = run.seen
    assert seen is not None
    by_release = ", ".join(f"{name} {count(number)}" for name, number in seen.releases) or "none yet"
    return join(
        figures(
            figure("requests", count(seen.requests)),
            figure("failed", count(seen.failed)),
            figure("mixed", count(seen.mixed)),
        ),
        tag("p", f"Answers by release: {by_release}.", class_="note"),
        tag("p", seen.example, class_="note") if seen.example else None,
    )
