"""An app is a folder of declarations: loaded once, checked whole, every fault named with its file and line.

Every module of the folder is imported but `definitions.py` (which gives them to Feast) and those whose names begin with
`_`. What they declare is found by its type, so a new file needs no registration.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from stillpoint.app.checks.events import event_faults
from stillpoint.app.checks.fault import Fault
from stillpoint.app.checks.recommendations import (
    kind_faults,
    label_faults,
    order_faults,
    request_faults,
    trigger_faults,
)
from stillpoint.app.checks.views import view_faults
from stillpoint.app.conditions import Condition
from stillpoint.app.derived import record
from stillpoint.app.digest import digest
from stillpoint.app.entities import Entity
from stillpoint.app.events import Event
from stillpoint.app.feature_set import FeatureSet, feature_set
from stillpoint.app.fields import fields_of
from stillpoint.app.logs import ClickLog
from stillpoint.app.meaning import meaning_of
from stillpoint.app.order import ViewOrder, ordered
from stillpoint.app.place import Place
from stillpoint.app.recommendations import Label, PostProcessing, RecommendationKind, RequestTimeFeature, Trigger, Turns
from stillpoint.app.records import View
from stillpoint.app.tables import DailyView, Table
from stillpoint.app.version_one import VersionOne
from stillpoint.app.views import StreamView
from stillpoint.errors import InvalidInput

T = TypeVar("T")
_APART = "definitions"


class InvalidApp(InvalidInput):
    """An app has faults; the text names all of them."""

    def __init__(self, name: str, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        listed = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"app {name} has {len(faults)} fault{'s' if len(faults) > 1 else ''}:\n{listed}")


@dataclass(frozen=True, kw_only=True)
class App:
    """What an app declares, in the order of its files and lines. `where` is what it was loaded by."""

    name: str
    where: str
    folder: Path
    events: tuple[type[Event], ...]
    entities: tuple[Entity, ...]
    views: tuple[type[StreamView], ...]
    tables: tuple[Table, ...] = ()
    daily_views: tuple[DailyView, ...] = ()
    kinds: tuple[RecommendationKind, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    labels: tuple[Label, ...] = ()
    request_features: tuple[RequestTimeFeature, ...] = ()
    post_processing: tuple[PostProcessing, ...] = ()
    logs: tuple[ClickLog, ...] = ()
    order: ViewOrder | None = None
    version_one: VersionOne | None = None

    @cached_property
    def records(self) -> tuple[View, ...]:
        """The records of all views, streamed ones first."""
        return (*map(record, self.views), *(view.record for view in self.daily_views))

    def log(self, name: str) -> ClickLog:
        """Return a log's format.

        Raises:
            InvalidInput: the app declares none of this name.
        """
        for one in self.logs:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.logs) or "none"
        raise InvalidInput(
            f"app {self.name} declares no log format {name!r}; it declares {known} (see stillpoint.app.logs)"
        )

    @cached_property
    def features(self) -> FeatureSet:
        """All features of the app, and the platform's own."""
        return feature_set(ordered(self.records, self.order), self.request_features, self.item)

    @cached_property
    def item(self) -> Entity | None:
        """The entity that is recommended: the one that the label's items are ids of."""
        keys = {(label.item,) for label in self.labels}
        known = (*self.entities, *(view.entity for view in self.daily_views), *(table.entity for table in self.tables))
        return next((entity for entity in known if entity.keys in keys), None)

    def table(self, name: str) -> Table:
        """Return a table.

        Raises:
            KeyError: there is none of that name.
        """
        return {table.name: table for table in self.tables}[name]

    @cached_property
    def digest(self) -> str:
        """The canonical digest of the app: it changes with what the app computes, not with its words and files."""
        return digest(
            {
                "events": {event.type_name: _event_rule(event) for event in self.events},
                "views": {view.name: [view.digest(), str(view.ttl)] for view in self.views},
                "daily": {one.name: _daily_rule(one) for one in self.daily_views},
                "tables": {
                    one.name: {name: str(column) for name, column in one.columns.items()} for one in self.tables
                },
                "kinds": {
                    one.name: [one.delivery, str(one.ttl), one.limit, _rule(one.candidates)] for one in self.kinds
                },
                "triggers": sorted(map(_trigger_rule, self.triggers), key=str),
                "labels": sorted(map(_label_rule, self.labels), key=str),
                "requests": {one.name: [list(one.inputs), meaning_of(one.compute)] for one in self.request_features},
                "post_processing": [
                    [list(one.steps), sorted([name, str(value)] for name, value in one.options.items())]
                    for one in self.post_processing
                ],
            }
        )


def _rule(condition: Any) -> Any:
    """Return what decides, as plain data: nothing, a condition, a flag of a view that turns, or a function."""
    if isinstance(condition, Turns):
        return ["turns", condition.view.name, condition.feature]
    if condition is None or isinstance(condition, Condition):
        return str(condition)
    return meaning_of(condition)


def _trigger_rule(trigger: Trigger) -> list[Any]:
    kinds = [kind.name for kind in trigger.kinds]
    return [trigger.on.type_name, kinds, trigger.channel, str(trigger.max_age), _rule(trigger.when)]


def _label_rule(label: Label) -> list[Any]:
    undone = None if label.undone_event is None else label.undone_event.type_name
    return [
        label.shown.type_name,
        label.items,
        [leaf.type_name for leaf in label.positive.leaves],
        label.item,
        str(label.within),
        _rule(label.undone_by),
        undone,
        str(label.undone_within),
    ]


def _daily_rule(view: DailyView) -> list[Any]:
    columns = [[one.name, one.dtype, one.null_when] for one in view.features]
    functions = [meaning_of(one) for one in (view.compute, view.adds) if one is not None]
    return [view.entity.keys, columns, str(view.reaches), functions]


def _event_rule(event: type[Event]) -> list[Any]:
    family = [event.family.name, event.family.lateness_us, event.lake_only, event.any_of]
    return [family, [[one.name, str(one.kind), one.optional, str(one.annotation)] for one in fields_of(event).values()]]


@lru_cache(maxsize=8)
def load_app(where: str | Path) -> App:
    """Return the app of a package's name or a folder's path, checked.

    Raises:
        InvalidApp: it has faults, each named with its place.
    """
    folder = _folder(where)
    modules, faults = _modules(folder)
    found = list(_declarations(modules, folder))
    app = App(
        name=folder.name,
        where=str(where),
        folder=folder,
        events=tuple(_leaves(found)),
        entities=_of(Entity, found),
        views=tuple(one for one in found if isinstance(one, type) and issubclass(one, StreamView)),
        tables=_of(Table, found),
        daily_views=_of(DailyView, found),
        kinds=_of(RecommendationKind, found),
        triggers=_of(Trigger, found),
        labels=_of(Label, found),
        request_features=_of(RequestTimeFeature, found),
        post_processing=_of(PostProcessing, found),
        logs=_of(ClickLog, found),
        order=next(iter(_of(ViewOrder, found)), None),
        version_one=next(iter(_of(VersionOne, found)), None),
    )
    faults += check(app)
    if faults:
        raise InvalidApp(app.name, tuple(sorted(set(faults))))
    return app


def found_app(where: str | Path) -> App | None:
    """Return the app, or None if there is no such folder: Feast's stores are of use without one.

    Raises:
        InvalidApp: it has faults, each named with its place.
    """
    return load_app(where) if _place(where).is_dir() else None


def check(app: App) -> list[Fault]:
    """Return every fault of an app."""
    faults = [*event_faults(app.events), *view_faults(app.views, app.events)]
    faults += [*kind_faults(app.kinds), *label_faults(app.labels)]
    if not faults:
        faults += _shared_names(app)
        faults += trigger_faults(app.triggers)
        faults += order_faults(app.order, (view.name for view in app.records))
        faults += request_faults(app.request_features, _request_columns(app))
    return faults


def _shared_names(app: App) -> Iterator[Fault]:
    """Yield features of daily views that have the name of another view's: in a training set they would be one column.

    Those of streamed views are told by their own check.
    """
    known = {feature.name: view.name for view in app.views for feature in record(view)}
    for view in app.daily_views:
        for feature in view.record:
            other = known.setdefault(feature.name, view.name)
            if other != view.name:
                text = f"feature {view.name}.{feature.name} has the name of one of {other}; rename one"
                yield Fault(view.place, text)


def _request_columns(app: App) -> Iterator[str]:
    for view in app.records:
        yield from view.feature_names
        yield f"{view.name}_age_seconds"
    for table in app.tables:
        yield from table.columns
    yield "request_timestamp_us"


def _place(where: str | Path) -> Path:
    path = Path(where)
    if not path.is_dir() and isinstance(where, str) and "/" not in where:
        path = Path(*where.split("."))
        if not path.is_dir():
            path = _installed(where) or path
    return path


def _folder(where: str | Path) -> Path:
    path = _place(where)
    if not path.is_dir():
        place = Place(str(path), 0)
        raise InvalidApp(str(where), (Fault(place, "there is no such folder; name the app's folder or package"),))
    return path.resolve()


def _installed(name: str) -> Path | None:
    """Return the folder of a package that can be imported by its name."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0]) if places else None


def _modules(folder: Path) -> tuple[list[ModuleType], list[Fault]]:
    modules, faults = [], []
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    for file in sorted(folder.glob("*.py")):
        if file.stem == _APART or file.stem.startswith("_"):
            continue
        try:
            module = importlib.import_module(f"{folder.name}.{file.stem}")
        except Exception as error:  # noqa: BLE001  whatever a module raises is its fault, and is told
            faults.append(Fault(_line(error, file), f"cannot be imported: {type(error).__name__}: {error}"))
            continue
        modules.append(module)
        if Path(module.__file__ or "").resolve() != file:
            taken = (
                f"another package is imported as {folder.name}, from {module.__file__}; give the folder another name"
            )
            faults.append(Fault(Place(str(file), 1), taken))
    return modules, faults


def _line(error: Exception, file: Path) -> Place:
    """Return the innermost line of the app's folder that an error passed through."""
    if isinstance(error, SyntaxError) and error.filename:
        return Place(error.filename, error.lineno or 0)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == file.parent
    ]
    return Place(frames[-1].filename, frames[-1].lineno or 0) if frames else Place(str(file), 1)


def _declarations(modules: Iterable[ModuleType], folder: Path) -> Iterator[Any]:
    """Yield what the modules declare: each once, in the order of files and lines."""
    found: dict[int, Any] = {}
    for module in modules:
        for value in vars(module).values():
            place = getattr(value, "place", None)
            if isinstance(place, Place) and Path(place.file).parent == folder:
                found[id(value)] = value
    yield from sorted(found.values(), key=lambda one: one.place)


def _leaves(found: Iterable[Any]) -> Iterator[type[Event]]:
    """Yield the event types: the classes from which no other derives."""
    for one in found:
        if isinstance(one, type) and issubclass(one, Event) and one.leaves == (one,):
            yield one


def _of(kind: type[T], found: Iterable[Any]) -> tuple[T, ...]:
    return tuple(one for one in found if isinstance(one, kind))
