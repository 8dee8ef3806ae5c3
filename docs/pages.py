"""Writes the pages of docs/ that follow from code: `make pages`. Tests compare what is committed."""

import sys
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from inference.http.metrics import Metrics
from inference.openapi import document
from ingestion.metrics import StreamMetrics
from release.gate import Thresholds
from stillpoint.app.described import page
from stillpoint.app.load import load_app
from stillpoint.cli.root import HELP, command
from stillpoint.cli.verbs import VERBS
from stillpoint.durations import FORMS
from stillpoint.settings import GROUPS, Settings
from validation.drift import DriftLimits

HERE = Path(__file__).parent
INTRODUCTION = f"""Each is an environment variable, or a line of `.env` in the working folder. All that are missing or malformed are
named at once. The defaults are the embedded stack on this machine (`stillpoint up`); the same variables point at AWS and at any Redis.
Durations are {FORMS}. A Redis connection string is written as Feast writes it:
`host:port,db=0,ssl=true,username=…,password=…`; clusters, configuration endpoints and Sentinels: `docs/redis.md`.
"""
CATALOGUE = """`stillpoint features list` names them too, and `stillpoint features show FEATURE` says also which releases use one, its\nlast distribution and how fresh it is, for whatever app `STILLPOINT_APP` names.\n"""
NOTE = "<!-- Written by `make pages` from the code; do not edit. -->\n\n"


def settings_page() -> str:
    """Return docs/settings.md: every variable with its default and meaning."""
    parts = [
        "# Settings\n\n",
        NOTE,
        INTRODUCTION,
    ]
    for title, names in GROUPS.items():
        parts += [f"\n## {title}\n", _table(Settings, names)]
    parts += ["\n## The release gate\n", _table(Thresholds, tuple(Thresholds.model_fields))]
    parts += ["\n## Drift\n", _table(DriftLimits, tuple(DriftLimits.model_fields))]
    return "".join(parts)


def _table(settings: type[BaseSettings], names: tuple[str, ...]) -> str:
    prefix = settings.model_config.get("env_prefix", "")
    rows = ["\n| variable | default | meaning |\n| --- | --- | --- |\n"]
    for name in names:
        field = settings.model_fields[name]
        default = "" if field.default is PydanticUndefined else _shown(field.default)
        rows.append(
            f"| `{prefix}{name.upper()}` | {default} | {(field.description or '').replace('|', chr(92) + '|')} |\n"
        )
    return "".join(rows)


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "unset" if value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def cli_page() -> str:
    """Return docs/cli.md: every verb with its arguments and options, as `--help` says them."""
    parts = ["# Command line\n\n", NOTE, HELP, "\n\nExit codes: 0 done, 1 refused or failed, 2 usage.\n"]
    for panel in dict.fromkeys(verb.panel for verb in VERBS):
        parts.append(f"\n## {panel}\n")
        for verb in (one for one in VERBS if one.panel == panel):
            group = command([verb.name])
            parts += _command(group.commands[verb.name], f"stillpoint {verb.name}", verb.help)
    return "".join(parts)


def _command(found: Any, name: str, line: str) -> list[str]:
    commands = getattr(found, "commands", None)
    if commands:
        return [f"\n### `{name}`\n{line}\n"] + [
            text for sub, one in commands.items() for text in _command(one, f"{name} {sub}", "")
        ]
    said = (found.help or line).replace("\b", "").strip()
    usage = " ".join([name, *(one for parameter in found.params for one in _usage(parameter))])
    parts = [f"\n### `{name}`\n{said}\n\n```\n{usage}\n```\n"]
    rows = [row for parameter in found.params if (row := _row(parameter))]
    if rows:
        parts += ["\n| option | default | meaning |\n| --- | --- | --- |\n", *rows]
    return parts


def _usage(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        shown = parameter.name.upper()
        return [shown if parameter.required else f"[{shown}]"]
    return [f"{parameter.opts[-1]} …"] if parameter.required else []


def _row(parameter: Any) -> str | None:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return None
    names = (
        ", ".join(f"`{one}`" for one in [*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "option"
        else f"`{parameter.name.upper()}`"
    )
    default = parameter.default
    shown = "" if default in (None, False, ..., ()) or callable(default) else f"`{getattr(default, 'value', default)}`"
    said = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| {names} | {shown} | {said} |\n"


def http_page() -> str:
    """Return docs/http.md: every endpoint with its scope and its answers, as `openapi.json` describes them."""
    found = document(())
    parts = [
        "# HTTP\n\n",
        NOTE,
        f"{found['info'].get('description', '').strip()}\n\n",
        "The whole description is `openapi.json` in the repository, and `/openapi.json` and `/docs` of a running service.\n",
    ]
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            parts.append(
                f"\n## `{method.upper()} {path}`\n{operation['summary']} {operation.get('description', '')}".rstrip()
            )
            parts.append("\n\n| answer | when |\n| --- | --- |\n")
            parts += [f"| {code} | {answer['description']} |\n" for code, answer in operation["responses"].items()]
    return "".join(parts)


def metrics_page() -> str:
    """Return docs/metrics.md: every metric that a process exports, with its labels."""
    parts = [
        "# Metrics\n\n",
        NOTE,
        "All are Prometheus metrics; a counter's name ends with `_total` when it is scraped.\n",
    ]
    for title, registry in (
        ("The stream (`stillpoint stream --metrics-port`)", StreamMetrics().registry),
        ("The HTTP service (`/metrics`)", Metrics().registry),
    ):
        parts.append(f"\n## {title}\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
        for metric, labels in declared_metrics(registry):
            shown = ", ".join(f"`{label}`" for label in labels)
            parts.append(f"| `{metric.name}` | {metric.type} | {shown} | {metric.documentation} |\n")
    return "".join(parts)


def declared_metrics(registry: CollectorRegistry) -> list[tuple[Metric, tuple[str, ...]]]:
    """Return each metric of a registry with the names of its labels, in order of the names."""
    found = []
    for collector in registry._collector_to_names:
        (metric,) = collector.collect()
        found.append((metric, tuple(getattr(collector, "_labelnames", ()))))
    return sorted(found, key=lambda one: one[0].name)


def features_page() -> str:
    """Return docs/features.md: the catalogue of the default app."""
    app = load_app(str(HERE.parent / "feature_repo"))
    return f"# Features\n\n{NOTE}{CATALOGUE}\n{page(app)}"


PAGES = {
    "settings.md": settings_page,
    "cli.md": cli_page,
    "features.md": features_page,
    "http.md": http_page,
    "metrics.md": metrics_page,
}


def main(arguments: list[str]) -> int:
    """Write all pages; with `--check` write none, and name those that are not as they would be written."""
    stale = [name for name, page in PAGES.items() if not _is_now(HERE / name, page(), write="--check" not in arguments)]
    if stale and "--check" in arguments:
        print(f"of yesterday: {', '.join(stale)}; run `make pages`")
        return 1
    return 0


def _is_now(path: Path, text: str, *, write: bool) -> bool:
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    if write and not same:
        path.write_text(text, encoding="utf-8")
    return same


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
