"""Imports and declared dependencies agree: each room imports only what its extra brings, and nothing is declared in vain."""

import ast
import re
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
ROOMS: dict[str, set[str]] = {
    "stillpoint/stores": {"stores", "stream"},  # Spark is used only by who sets `spark_parts`
    "stillpoint/client": {"client"},
    "stillpoint/open_tables": {"iceberg"},
    "stillpoint": {"stores", "stream", "serve", "train", "tracing"},
    "feature_repo": {"stores"},
    "ingestion": {"stream"},
    "training": {"train", "stores"},
    "inference": {"serve"},
    "privacy": {"serve"},
    "validation": {"validate"},
    "release": {"release"},
    "simulation": {"stream", "release"},
    "console": {"console"},
}
"""The extras that a room may rely on, beside the core dependencies. The most specific folder counts."""

DISTRIBUTIONS = {
    "botocore": "boto3",
    "google": "protobuf",
    "great_expectations": "great-expectations",
    "opentelemetry": "opentelemetry-api",
    "prometheus_client": "prometheus-client",
    "pydantic_settings": "pydantic-settings",
    "jwt": "pyjwt",
    "yaml": "pyyaml",
}
"""Import names that differ from the name of their distribution."""

NEVER_IMPORTED = {
    "sagemaker": "the SDK that notebooks and callers use on what `training` makes; tests run it against the stand-in",
    "scikit-learn": "XGBoost's and MLflow's model flavours load through it",
    "opentelemetry-sdk": "found by `opentelemetry.sdk`",
    "opentelemetry-exporter-otlp-proto-http": "found by `opentelemetry.exporter`",
    "ipykernel": "the notebooks' kernel",
}


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0].lower()


def brought_by(extra: str) -> set[str]:
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        if name_of(requirement) == PROJECT["project"]["name"]:
            for other in re.search(r"\[(.*?)\]", requirement)[1].split(","):
                found |= brought_by(other)
        else:
            found.add(name_of(requirement))
    return found


def imports() -> dict[str, set[str]]:
    """Return the distributions that each room imports at run time, wherever in a module; types are no run time."""
    own = {room.partition("/")[0] for room in ROOMS}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for top in own:
        for path in (ROOT / top).rglob("*.py"):
            place = path.relative_to(ROOT).as_posix()
            room = max((room for room in ROOMS if place.startswith(f"{room}/")), key=len)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for name in (one.partition(".")[0] for one in names):
                    if name not in sys.stdlib_module_names | own and not name.startswith("mypy_boto3"):
                        found[room].add(DISTRIBUTIONS.get(name, name))
    return found


def test_each_room_imports_only_what_its_extras_declare() -> None:
    core = {name_of(requirement) for requirement in PROJECT["project"]["dependencies"]}
    undeclared = {
        room: sorted(used - core - set().union(*(brought_by(extra) for extra in ROOMS[room])))
        for room, used in imports().items()
    }
    assert {room: names for room, names in undeclared.items() if names} == {}


def test_no_dependency_is_declared_in_vain() -> None:
    used = set().union(*imports().values()) | NEVER_IMPORTED.keys() | {"uvicorn", "nbclient", "nbformat"}
    declared = {name_of(requirement) for requirement in PROJECT["project"]["dependencies"]}
    declared = declared.union(*(brought_by(extra) for extra in EXTRAS))
    assert sorted(declared - used) == []
