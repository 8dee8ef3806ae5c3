"""What a function does, as plain data that is equal under every version of Python: its syntax and that of all it calls.

Comments, docstrings, annotations, decorators, layout and places do not count. Functions, classes and constants of the app
that are used by name count as if they stood there; what comes from elsewhere counts by its name.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any

_SILENT = frozenset(
    {"ctx", "type_comment", "type_params", "annotation", "returns", "decorator_list", "kind", "simple", "type_ignores"}
)
_PLAIN = (int, float, str, bytes, bool, type(None))


def meaning_of(thing: Callable[..., Any] | type) -> list[Any]:
    """Return what a function or class does.

    >>> def twice(x: int) -> int:
    ...     "Double it."
    ...     return x + x
    >>> meaning_of(twice) == meaning_of(twice)
    True
    """
    found: dict[str, Any] = {}
    own = _Own(str(thing.__module__).partition(".")[0])
    own.take(thing.__qualname__, thing, found)
    return [[name.rpartition(".")[2], found[name]] for name in sorted(found)]


class _Own:
    """Follows names into the modules of one package: those of an app."""

    def __init__(self, package: str) -> None:
        self._package = package

    def take(self, name: str, thing: Any, found: dict[str, Any]) -> None:
        if name in found:
            return
        node = _node(thing)
        found[name] = _plain(node)
        names = {**vars(sys.modules.get(thing.__module__, ModuleType(""))), **_enclosed(thing)}
        for used, value in sorted(_used(node, names), key=lambda one: one[0]):
            if isinstance(value, FunctionType | type) and self._is_own(value):
                self.take(f"{value.__module__}.{value.__qualname__}", value, found)
            elif _is_constant(value):
                found.setdefault(f"= {used}", _shown(value))

    def _is_own(self, value: Any) -> bool:
        declared = hasattr(value, "place") or hasattr(value, "type_name")  # an event or a view counts by its name
        return str(value.__module__).partition(".")[0] == self._package and not declared


def _used(node: ast.AST, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names that a tree uses and that are known, also those of modules: `module.name`."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and one.id in names:
            yield one.id, names[one.id]
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name):
            module = names.get(one.value.id)
            if isinstance(module, ModuleType) and hasattr(module, one.attr):
                yield f"{one.value.id}.{one.attr}", getattr(module, one.attr)


def _enclosed(thing: Any) -> dict[str, Any]:
    return dict(inspect.getclosurevars(thing).nonlocals) if isinstance(thing, FunctionType) else {}


def _is_constant(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_constant(part) for pair in value.items() for part in pair)
    if isinstance(value, tuple | list | frozenset | set):
        return all(map(_is_constant, value))
    return isinstance(value, (*_PLAIN, re.Pattern))


def _shown(value: Any) -> str:
    """Return a constant as text; sets in one order."""
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(map(_shown, value))) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_shown(name)}: {_shown(one)}" for name, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return repr(value.pattern) if isinstance(value, re.Pattern) else repr(value)


def _node(thing: Any) -> ast.AST:
    """Return the syntax of a function, a lambda (with whatever lambda stands on its line) or a class."""
    if not isinstance(thing, FunctionType):
        return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    code = thing.__code__
    lines, _ = inspect.findsource(thing)
    functions, lambdas = _by_line("".join(lines))
    if code.co_name == "<lambda>":
        return ast.Module(body=[ast.Expr(one) for one in lambdas.get(code.co_firstlineno, ())], type_ignores=[])
    return functions[code.co_firstlineno]


@lru_cache(maxsize=64)
def _by_line(source: str) -> tuple[dict[int, ast.AST], dict[int, list[ast.Lambda]]]:
    functions: dict[int, ast.AST] = {}
    lambdas: dict[int, list[ast.Lambda]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions[min([node.lineno, *(one.lineno for one in node.decorator_list)])] = node
        elif isinstance(node, ast.Lambda):
            lambdas.setdefault(node.lineno, []).append(node)
    return functions, lambdas


def _plain(node: Any) -> Any:
    """Return a syntax tree as lists, without what is empty: so that a version's new fields do not show."""
    if isinstance(node, ast.Constant):
        return ["=", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if name not in _SILENT}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            fields["body"] = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        parts = {name: _plain(value) for name, value in fields.items() if value is not None and value != []}
        return [type(node).__name__, *([name, parts[name]] for name in sorted(parts))]
    if isinstance(node, list):
        return [_plain(one) for one in node]
    return node
