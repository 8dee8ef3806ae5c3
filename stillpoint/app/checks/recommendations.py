"""Are kinds, triggers, labels and request-time features well declared, and do they name what there is?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from stillpoint.app.checks.conditions import condition_faults
from stillpoint.app.checks.events import NAME
from stillpoint.app.checks.fault import Fault
from stillpoint.app.conditions import Condition
from stillpoint.app.derived import record
from stillpoint.app.durations import micros
from stillpoint.app.fields import fields_of
from stillpoint.app.order import ViewOrder
from stillpoint.app.recommendations import CHANNELS, Label, RecommendationKind, RequestTimeFeature, Trigger, Turns
from stillpoint.dtypes import DType


def kind_faults(kinds: Sequence[RecommendationKind]) -> Iterator[Fault]:
    """Yield the faults of kinds of recommendation."""
    names: set[str] = set()
    for kind in kinds:
        if not NAME.match(kind.name):
            yield Fault(kind.place, f"kind {kind.name!r} is no name; expected small letters, digits and _")
        if kind.name in names:
            yield Fault(kind.place, f"kind {kind.name} is declared twice")
        names.add(kind.name)
        if kind.delivery not in ("pull", "push"):
            yield Fault(kind.place, f"kind {kind.name} is delivered by {kind.delivery!r}; expected pull or push")
        if micros(kind.ttl) <= 0:
            yield Fault(kind.place, f"kind {kind.name} has the ttl {kind.ttl}; expected a positive length")


def trigger_faults(triggers: Sequence[Trigger]) -> Iterator[Fault]:
    """Yield the faults of triggers."""
    for trigger in triggers:
        name = f"trigger on {trigger.on.type_name}"
        if trigger.channel not in CHANNELS:
            channels = ", ".join(sorted(CHANNELS))
            yield Fault(trigger.place, f"{name}: channel {trigger.channel!r}; expected one of {channels}")
        if not trigger.kinds:
            yield Fault(trigger.place, f"{name} asks for nothing; expected at least one kind")
        if trigger.when is not None and not isinstance(trigger.when, Condition | Turns) and not callable(trigger.when):
            yield Fault(trigger.place, f"{name}: {trigger.when!r} is no condition")
        if isinstance(trigger.when, Condition):
            for text in condition_faults(trigger.when, trigger.on.leaves):
                yield Fault(trigger.place, f"{name}: {text}")
        if isinstance(trigger.when, Turns):
            known = {feature.name: feature.dtype for feature in record(trigger.when.view)}
            if known.get(trigger.when.feature) is not DType.BOOL:
                told = f"{trigger.when.view.name}.{trigger.when.feature}"
                yield Fault(trigger.place, f"{name}: {told} is no flag, so it never turns true")


def label_faults(labels: Sequence[Label]) -> Iterator[Fault]:
    """Yield the faults of labels."""
    for label in labels:
        for event, field in ((label.shown, label.items), (label.positive, label.item)):
            for leaf in event.leaves:
                if field not in fields_of(leaf):
                    yield Fault(label.place, f"the label looks at {leaf.type_name}.{field}, which is no field of it")
        if micros(label.within) <= 0:
            yield Fault(label.place, f"the label looks {label.within} ahead; expected a positive length")
        if label.undone_by is not None:
            undone = label.undone_event
            if undone is None:
                yield Fault(label.place, "the label can be undone, and no event is named that does it")
            elif not isinstance(label.undone_by, Condition):
                yield Fault(label.place, f"the label is undone by {label.undone_by!r}, which is no condition")
            else:
                for text in condition_faults(label.undone_by, undone.leaves):
                    yield Fault(label.place, f"the label's undoing: {text}")


def order_faults(order: ViewOrder | None, views: Iterable[str]) -> Iterator[Fault]:
    """Yield the faults of the views' order."""
    known = set(views)
    for name in () if order is None else order.first:
        if name not in known:
            yield Fault(order.place, f"the order names {name}, which is no view")  # type: ignore[union-attr]


def request_faults(features: Sequence[RequestTimeFeature], known: Iterable[str]) -> Iterator[Fault]:
    """Yield the faults of request-time features; `known` are the columns that a request has."""
    by_name = {one.name: one for one in features}
    columns = set(known)
    for one in features:
        if one.name in columns:
            yield Fault(one.place, f"request-time feature {one.name} has the name of another column; rename one")
        for name in one.inputs:
            if name not in columns and name not in by_name:
                yield Fault(one.place, f"request-time feature {one.name} reads {name}, which nothing gives")
        cycle = _cycle(one.name, by_name)
        if cycle and min(cycle) == one.name:
            yield Fault(one.place, f"request-time features read one another in a circle: {' → '.join(cycle)}")


def _cycle(start: str, by_name: Mapping[str, RequestTimeFeature]) -> list[str]:
    """Return a way from a feature back to itself, or nothing."""
    ways = [[start]]
    seen = set()
    while ways:
        way = ways.pop()
        for name in by_name[way[-1]].inputs:
            if name == start:
                return [*way, start]
            if name in by_name and name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
