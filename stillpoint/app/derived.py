"""The record of a declared view: types, ranges, null rules and descriptions follow from its aggregations."""

from stillpoint.app.records import Feature, Origin, View
from stillpoint.app.views import CustomView, StreamedFeature, StreamView

_UNITS = {"count": "events", "exists": "flag", "count_distinct": "values", "share": "share"}
_SECONDS = frozenset({"time_since_last", "time_since_first"})


def record(view: type[StreamView]) -> View:
    """Return the record of a streamed view."""
    made = tuple(feature_record(feature, view.owner) for feature in view.features())
    return View(
        name=view.name,
        entity=view.entity,
        origin=Origin.STREAMED,
        ttl=view.ttl,
        features=view.described if issubclass(view, CustomView) else made,
        description=" ".join((view.__doc__ or "").split()),
        event_types=frozenset(event.type_name for event in view.event_types()),
    )


def feature_record(feature: StreamedFeature, owner: str | None = None) -> Feature:
    """Return the record of one feature. Its description ends with the window, and says where an edge is rounded."""
    told, aggregation, field = feature.declared.told, feature.aggregation, feature.field
    low, high = aggregation.bounds(field.minimum if _numeric(feature) else None, field.maximum if _numeric(feature) else None) if field else aggregation.bounds(None, None)  # fmt: skip
    given = told.get("default")
    return Feature(
        name=feature.name,
        dtype=aggregation.dtype(field.kind if field else None),
        unit=told.get("unit") or _unit(feature),
        description=f"{told.get('description') or meaning(feature)} Over {feature.window}.",
        minimum=told.get("minimum", low),
        maximum=told.get("maximum", high),
        values=field.values if field and aggregation.name in ("first", "last", "most_frequent") else None,
        null_when=None if aggregation.never_null or given is not None else _null_when(feature),
        owner=told.get("owner", owner),
    )


def meaning(feature: StreamedFeature) -> str:
    """Return what a feature is, in a sentence made from its definition."""
    declared = feature.declared
    events = " or ".join(leaf.type_name for event in declared.events for leaf in event.leaves)
    of = " or ".join(leaf.type_name for event in declared.of for leaf in event.leaves)
    what = feature.aggregation.name.replace("_", " ").capitalize()
    field = f" of {feature.field.name}" if feature.field else ""
    base = f" among {of} by {declared.field}" if of else ""
    where = told if (told := declared.told.get("where")) is not None else None
    return f"{what}{field} of {events}{base}{f' where {where}' if where is not None else ''}."


def _numeric(feature: StreamedFeature) -> bool:
    return feature.field is not None and feature.field.kind in ("integer", "number")


def _unit(feature: StreamedFeature) -> str:
    if feature.aggregation.name in _SECONDS:
        return "seconds"
    return _UNITS.get(feature.aggregation.name, feature.field.name if feature.field else "value")


def _null_when(feature: StreamedFeature) -> str:
    name = feature.aggregation.name
    if name == "slope":
        return "fewer than two distinct times in the window"
    if name == "blended_embedding":
        return "no text in the window, or nothing is left of the sum"
    if name == "own":
        return "the function says so"
    return "no such event in the window"
