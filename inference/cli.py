"""The verbs of serving: worker, service, model server, features, explanations."""

import json
import logging
import signal
import sys
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from stillpoint.cli import arguments
from stillpoint.cli.audit import note_reading
from stillpoint.errors import NotFound
from stillpoint.settings import Settings


def serve(
    host: Annotated[
        str | None, typer.Option(parser=arguments.host, metavar="HOST", help="Address; the setting by default.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(parser=arguments.port, metavar="PORT", help="Port; the setting by default.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(parser=arguments.processes, metavar="COUNT", help="Processes; the setting by default.")
    ] = None,
    fixtures: Annotated[
        bool,
        typer.Option("--fixtures", help="Answer everything from made-up examples: no stack, no release, no model."),
    ] = False,
) -> None:
    """Run the HTTP service until SIGTERM or Ctrl-C; requests under way are answered first."""
    from inference.http.server import run_fixtures, run_service
    from stillpoint.local.records import record_process

    settings = Settings.load()
    address, number = host or settings.http_host, settings.http_port if port is None else port
    with record_process(settings.home, "serve", address=f"{address}:{number}"):
        if fixtures:
            run_fixtures(host=address, port=number)
        else:
            run_service(settings, host=address, port=number, workers=workers or settings.http_workers)


def worker() -> None:
    """Answer prediction requests from the queue until SIGTERM or Ctrl-C; the batch under way is finished first."""
    from inference.http.tuning import hand_over_quickly, keep_what_is_loaded, one_thread_per_process

    one_thread_per_process()
    from inference.worker.entry import create_worker
    from stillpoint.local.records import record_process

    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s: %(message)s", force=True
    )  # its own log, instead of the file for libraries
    hand_over_quickly()
    settings = Settings.load()
    with record_process(settings.home, "worker"):
        running, close = create_worker(settings)
        keep_what_is_loaded()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: running.stop())
        try:
            running.run()
        finally:
            close()


def model_server() -> None:
    """Serve the bundle in STILLPOINT_MODEL_DIR by SageMaker's container contract."""
    from inference.model_server import main
    from stillpoint.local.records import record_process

    with record_process(Settings.load().home, "model-server"):
        raise typer.Exit(main())


def features(
    user_id: Annotated[str, typer.Argument(parser=arguments.user_id, metavar="USER", help="Whose features.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a user's online features in the live release: value, status, age, colour."""
    from inference.live.loaded_release import load_live
    from stillpoint.clock import system_clock, to_micros
    from stillpoint.lake.app_lake import open_lake
    from stillpoint.releases.book import ObjectReleaseBook
    from stillpoint.stores.reading.types import FieldStatus

    settings = Settings.load()
    lake = open_lake(settings)
    loaded = load_live(ObjectReleaseBook(lake.objects), lake, settings, now=system_clock())
    note_reading(settings, lake.objects, user_id, what="features", release=loaded.id)
    columns = loaded.reader.read(loaded.users.names, {"user_id": [user_id]}, now_us=to_micros(system_clock()))
    cells = columns.to_dicts(full_names=True)[0]
    if all(cell.status is FieldStatus.NOT_FOUND for cell in cells.values()):
        raise NotFound(f"release {loaded.id} ({loaded.release.colour}) knows nothing of user {user_id}")
    if as_json:
        sys.stdout.write(
            json.dumps(
                {
                    "user_id": user_id,
                    "release": loaded.id,
                    "colour": str(loaded.release.colour),
                    "features": {
                        name: {"value": _plain(cell.value), "status": cell.status.name, "age_seconds": cell.age_seconds}
                        for name, cell in cells.items()
                    },
                }
            )
            + "\n"
        )
        return
    rows = [(name.replace("__", ":"), cell.value, cell.status.name, cell.age_seconds) for name, cell in cells.items()]
    Console().print(features_table(f"{user_id} in {loaded.release.colour} ({loaded.id})", rows))


def features_table(title: str, rows: Iterable[tuple[str, Any, str, float | None]]) -> Table:
    """Return a table of features below their views, each with value and status, and how old the view's values are.

    Long texts wrap within their cell: cut short, two names with the same beginning would look the same.
    """
    table = Table(*(Column(name, overflow="fold") for name in ("feature", "value", "status")), title=title)
    for view, features in groupby(rows, lambda row: row[0].partition(":")[0]):
        found = list(features)
        table.add_section()
        table.add_row(f"[bold]{view}[/]", _old(found[0][3]))
        for name, value, status, _ in found:
            table.add_row(f"  {name.partition(':')[2]}", _short(value), status)
    return table


def _old(age: float | None) -> str:
    """Return an age in the largest unit of which it has two."""
    if age is None:
        return ""
    for unit, seconds in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if age >= 2 * seconds:
            return f"{age / seconds:.1f} {unit} old"
    return f"{age:.1f} s old"


def explain(
    recommendation_id: Annotated[
        str,
        typer.Argument(parser=arguments.recommendation_id, metavar="RECOMMENDATION", help="As every answer names it."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain a recommendation: features and their ages, release, trigger, and what each added to the first items."""
    from inference.live.loaded_release import load
    from inference.predictions.explain import explain as explained
    from inference.predictions.explain import served_record
    from stillpoint.clock import system_clock
    from stillpoint.lake.app_lake import open_lake
    from stillpoint.messages import Kind
    from stillpoint.releases.book import ObjectReleaseBook
    from stillpoint.releases.parts import load_model

    settings = Settings.load()
    lake = open_lake(settings)
    served = served_record(lake, recommendation_id)
    note_reading(settings, lake.objects, served["user_id"], what="explanation", recommendation=recommendation_id)
    book = ObjectReleaseBook(lake.objects)
    loaded = load(book, lake, settings, served["release"], served["generation"], now=system_clock())
    route = loaded.release.routes[Kind(served["kind"])]
    bundle = load_model(lake.objects, route)
    document = explained(served, bundle, loaded.contents).document()
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
        return
    console = Console()
    trigger = document["trigger"] or "a request"
    console.print(
        f"{document['kind']} for {document['user_id']}, by {document['release']} ({document['source']}), after {trigger}"
    )
    features_table = Table(*(Column(name, overflow="fold") for name in ("view", "status", "age", "values")))
    for view in document["views"]:
        age = "" if view["age_seconds"] is None else f"{view['age_seconds']:,.1f} s"
        values = ", ".join(f"{name} {_short(value)}" for name, value in view["values"].items() if value is not None)
        features_table.add_row(view["view"], view["status"], age, values)
    console.print(features_table)
    titles = dict(zip(loaded.contents.ids, loaded.contents.titles, strict=True))
    for item, parts in document["contributions"].items():
        console.print(f"{titles[item]}: " + ", ".join(f"{name} {value:+.2f}" for name, value in parts.items()))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        return f"[{', '.join(f'{float(one):.3f}' for one in list(value)[:3])}, … {len(value)} numbers]"
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
