"""Feast is imported in a third of its time: its classes check the types of their arguments from the first use on.

Feast decorates its classes with `typeguard.typechecked`, which parses and compiles a class's whole module anew for each of
its methods: 2.8 of the 3.9 seconds that `import feast` takes. Here a constructor is prepared when it is first called, so a
wrong argument is refused in the same words; the other methods are not checked.
"""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


def defer_type_checks() -> None:
    """Let an `import feast` that comes later be quick. Nothing is imported now, and calling it again changes nothing."""
    if "typeguard" not in sys.modules and not any(isinstance(one, _TypeguardFinder) for one in sys.meta_path):
        sys.meta_path.insert(0, _TypeguardFinder())


class _TypeguardFinder(MetaPathFinder):
    """Finds the module `typeguard` alone, where Python would."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "typeguard":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _TypeguardLoader(spec.loader.name, spec.loader.path)
        return spec


class _TypeguardLoader(SourceFileLoader):
    """Loads `typeguard` as it is, but for what its decorator does with Feast's classes."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module)["typechecked"] = _from_first_use(vars(module)["typechecked"])


def _from_first_use(typechecked: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(typechecked)
    def decorate(target: Any = None, **options: Any) -> Any:
        if isinstance(target, type) and target.__module__.partition(".")[0] == "feast" and not options:
            _check_constructor_when_called(target, typechecked)
            return target
        return typechecked(**options) if target is None else typechecked(target, **options)

    return decorate


def _check_constructor_when_called(owner: type, typechecked: Callable[..., Any]) -> None:
    made = vars(owner).get("__init__")
    if made is None:
        return

    @wraps(made)
    def first(self: object, *arguments: object, **named: object) -> None:
        checked = typechecked(made)
        setattr(owner, "__init__", checked)  # noqa: B010 - a method is replaced
        checked(self, *arguments, **named)

    setattr(owner, "__init__", first)  # noqa: B010
