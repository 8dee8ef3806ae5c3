"""Are the streamed views well declared? Names, entities, windows, and aggregations that their fields can take."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from stillpoint.app.aggregations import Aggregated
from stillpoint.app.checks.conditions import condition_faults
from stillpoint.app.checks.events import NAME
from stillpoint.app.checks.fault import Fault
from stillpoint.app.checks.owned import function_faults
from stillpoint.app.conditions import Condition, Field
from stillpoint.app.derived import feature_record
from stillpoint.app.durations import label, micros
from stillpoint.app.entities import Entity
from stillpoint.app.events import Event
from stillpoint.app.fields import fields_of
from stillpoint.app.views import CustomView, StreamedFeature, StreamView
from stillpoint.app.windows import Session, Sliding
from stillpoint.features.streamed.aggregations.embeddings import BlendedEmbedding
from stillpoint.features.streamed.aggregations.order import LastN
from stillpoint.features.streamed.isolation import holds

LONGEST_US = 366 * 86_400_000_000
DAY_US = 86_400_000_000


def view_faults(views: Sequence[type[StreamView]], events: Sequence[type[Event]]) -> Iterator[Fault]:
    """Yield the faults of an app's streamed views."""
    names: dict[str, type[StreamView]] = {}
    features: dict[str, str] = {}
    for view in views:
        if view.name in names:
            yield Fault(view.place, f"view {view.name} is declared twice, first at {names[view.name].place}")
        names.setdefault(view.name, view)
        yield from _shape_faults(view)
        broken = {declared.place for declared, _ in _broken(view)}
        for declared, text in _broken(view):
            yield Fault(declared.place, f"view {view.name}: {text}")
        for feature in (one for one in _features(view) if one.declared.place not in broken):
            full = f"feature {view.name}.{feature.name}"
            if feature.name in features:
                yield Fault(feature.declared.place, f"{full} has the name of {features[feature.name]}; rename one")
            features.setdefault(feature.name, full)
            for text in _feature_faults(view, feature, events):
                yield Fault(feature.declared.place, f"{full}: {text}")


def _shape_faults(view: type[StreamView]) -> Iterator[Fault]:
    if not NAME.match(view.name):
        yield Fault(view.place, f"view {view.name!r} is no name; expected small letters, digits and _")
    if not isinstance(getattr(view, "entity", None), Entity):
        yield Fault(view.place, f"view {view.name} has no entity; expected a line such as `entity = user`")
    if not (view.__doc__ or "").strip():
        yield Fault(view.place, f"view {view.name} has no docstring; expected a sentence that says what it is about")
    if view.ttl is not None and (not isinstance(view.ttl, timedelta) or micros(view.ttl) <= 0):
        yield Fault(
            view.place, f"view {view.name} has the ttl {view.ttl!r}; expected a positive length such as hours(2)"
        )
    if issubclass(view, CustomView):
        yield from _custom_faults(view)
    elif not view.declared():
        yield Fault(view.place, f"view {view.name} has no feature; expected a line such as `plays = count(...)`")


def _custom_faults(view: type[CustomView]) -> Iterator[Fault]:
    missing = [name for name in ("on", "makes", "described") if not hasattr(view, name)]
    if missing:
        yield Fault(
            view.place, f"view {view.name} has no {', '.join(missing)}; expected its events, definition, features"
        )
        return
    if not view.entity.of_user:
        yield Fault(
            view.place,
            f"view {view.name} is written by hand, and entity {view.entity.name} belongs to no single user: what it "
            "computes could depend on the order of users; expected an entity with user_id, or declared aggregations",
        )
    for method in ("unpack", "rows", "keep", "pack", "reach_us"):
        if not hasattr(view.makes, method):
            yield Fault(view.place, f"view {view.name}: its definition has no method {method}")
    for event in view.event_types():
        if event.lake_only:
            yield Fault(view.place, f"view {view.name}: event type {event.type_name} is only stored")
        absent = [key for key in view.entity.keys if key not in fields_of(event)]
        if absent:
            yield Fault(view.place, f"view {view.name}: event type {event.type_name} has no {', '.join(absent)}")


def _broken(view: type[StreamView]) -> Iterator[tuple[Aggregated, str]]:
    """Yield the features that cannot be looked at further, with the reason."""
    for name, declared in view.declared().items():
        if not declared.events:
            yield declared, f"{name} is over {declared.field!r}; expected an event type or a field such as Search.query"
        elif any(not isinstance(event, type) or not issubclass(event, Event) for event in declared.events):
            yield declared, f"{name} counts {declared.events!r}; expected event types"
        elif any(not isinstance(window, Session | Sliding) for window in declared.over):
            yield declared, f"{name} is over {declared.over!r}; expected a length such as hours(1), or a window"
        elif Event in (*declared.events, *declared.of):
            yield declared, f"{name} is over every event; expected event types of the app"


def _features(view: type[StreamView]) -> tuple[StreamedFeature, ...]:
    if any(True for _ in _broken(view)):
        return ()
    return view.features()


def _feature_faults(view: type[StreamView], feature: StreamedFeature, events: Sequence[type[Event]]) -> Iterator[str]:
    declared, told = feature.declared, feature.declared.told
    if not NAME.match(feature.name):
        yield "is no name; expected small letters, digits and _"
    leaves = [leaf for event in (*declared.events, *declared.of) for leaf in event.leaves]
    hits = [leaf for event in declared.events for leaf in event.leaves]
    for leaf in leaves:
        if leaf not in events:
            yield f"event type {leaf.type_name} is not of this app"
        if leaf.lake_only:
            yield f"event type {leaf.type_name} is only stored; expected one that features may use"
        if isinstance(getattr(view, "entity", None), Entity):
            missing = [key for key in view.entity.keys if key not in fields_of(leaf)]
            if missing:
                yield f"event type {leaf.type_name} has no {', '.join(missing)}, by which entity {view.entity.name} is known"
    yield from _field_faults(feature, leaves, hits)
    where = told.get("where")
    if where is not None and not isinstance(where, Condition):
        yield f"the filter is {where!r}; expected a condition such as Search.query == 'x', joined with & and |"
    elif isinstance(where, Condition):
        yield from condition_faults(where, hits)
    yield from _window_faults(view, feature)
    low, high = told.get("minimum"), told.get("maximum")
    if low is not None and high is not None and low > high:
        yield f"the range from {low} to {high} is empty"
    if feature.aggregation.name == "own":
        yield from function_faults(feature, leaves)


def _field_faults(feature: StreamedFeature, leaves: list[type[Event]], hits: list[type[Event]]) -> Iterator[str]:
    aggregation, declared = feature.aggregation, feature.declared
    name = aggregation.name
    if name == "share":
        for leaf in leaves:
            info = fields_of(leaf).get(str(declared.field))
            if info is None:
                yield f"event type {leaf.type_name} has no field {declared.field}, on which the share is joined"
            elif aggregation.takes and info.kind not in aggregation.takes:
                yield f"a share on {leaf.type_name}.{declared.field}, which is {info.kind}; expected text or an integer"
    elif aggregation.takes:
        if not isinstance(declared.field, Field):
            yield f"{name} over {declared.field!r}; expected a field such as Search.query"
            return
        for leaf in hits:
            info = fields_of(leaf)[declared.field.name]
            if info.kind not in aggregation.takes:
                able = " or ".join(sorted(str(kind) for kind in aggregation.takes))
                yield f"{name} over {leaf.type_name}.{info.name}, which is {info.kind}; expected {able}"
    if isinstance(aggregation, LastN) and aggregation.count < 1:
        yield f"the last {aggregation.count} values; expected at least 1"
    if isinstance(aggregation, BlendedEmbedding) and not (aggregation.count >= 1 and 0 < aggregation.decay <= 1):
        yield f"{aggregation.count} texts weighted by {aggregation.decay}; expected at least 1, and a decay in (0, 1]"


def _window_faults(view: type[StreamView], feature: StreamedFeature) -> Iterator[str]:
    window = feature.window
    step_us = view.step_us() if isinstance(getattr(view, "entity", None), Entity) else None
    if isinstance(window, Session):
        if window.gap_us <= 0:
            yield "a session without a gap; expected a positive length such as minutes(30)"
        if step_us is not None:
            yield f"a session of entity {view.entity.name}; sessions belong to users, so expected a length of time"
        if feature.aggregation.halves or feature.aggregation.name == "own":
            yield f"{feature.aggregation.name} over a session; expected a length of time"
        return
    if not 0 < window.length_us <= LONGEST_US:
        yield f"a window of {label(window.length_us)}; expected a positive length up to 366 days"
    if window.step_us is not None and (window.step_us <= 0 or window.length_us % window.step_us):
        yield f"a window of {label(window.length_us)} is no whole number of steps of {label(window.step_us)}"
    default, dtype = feature.declared.told.get("default"), feature_record(feature).dtype
    if not holds(dtype, default):
        yield f"the value without events is {default!r}, which a feature of type {dtype} cannot hold"
    field = feature.declared.field
    if step_us is not None and (field.name if isinstance(field, Field) else field) == "user_id":
        yield (
            f"user_id as the value of a feature of entity {view.entity.name}: an erasure could not take a user out of it; "
            "expected a field that names no user"
        )
    if feature.aggregation.name == "own" and step_us is not None:
        yield f"a function of one's own over entity {view.entity.name}, whose events come in no order; expected an entity with user_id"
    if feature.aggregation.name == "own" and window.length_us > DAY_US:
        yield f"a function of one's own over {window.label} keeps every event; expected at most 24h"
    if step_us is not None and step_us > 0:
        odd = [one for one in (window.length_us, window.step_us or step_us) if one % step_us]
        if odd:
            yield f"{label(odd[0])} is no whole number of the view's row step of {label(step_us)}"
        elif feature.aggregation.halves and window.step_us is None and window.length_us // 2 % step_us:
            yield f"half of {window.label} is no whole number of the view's row step of {label(step_us)}"
