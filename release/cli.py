"""The release verbs on the command line."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stillpoint.cli import arguments
from stillpoint.cli.feast import Which
from stillpoint.cli.operator import operator
from stillpoint.messages import Kind
from stillpoint.settings import Settings

release = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Why = Annotated[
    str, typer.Option("--why", parser=arguments.reason, metavar="REASON", help="The reason, which the history keeps.")
]
ReleaseId = Annotated[str, typer.Argument(parser=arguments.release_id, metavar="RELEASE", help="For example r0001.")]


def _context(as_json: bool, **changes: Any) -> Any:
    """Build the clients from the settings. Progress goes to stderr, so that stdout is the answer alone."""
    from release.context import ReleaseContext
    from stillpoint.clock import system_clock
    from stillpoint.lake.app_lake import open_lake
    from stillpoint.stores.redis.connection import connect

    settings = Settings.load()
    says: Callable[[str], None] = (lambda step: None) if as_json else (lambda step: print(f"  {step}", file=sys.stderr))
    return ReleaseContext(
        settings=settings,
        lake=open_lake(settings),
        serving=connect(settings.redis_serving.get_secret_value()),
        connect=connect,
        clock=system_clock,
        operator=operator(),
        progress=says,
        **changes,
    )


def _tell_mlflow(context: Any) -> None:
    """Set the registered model's aliases from the release book; a failure gives a warning only."""
    from release.aliases import tell_mlflow, wanted

    warning = tell_mlflow(context.settings.mlflow_tracking_uri, wanted(context.book))
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)


def _print(document: Any) -> None:
    print(json.dumps(document, indent=1, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum | Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value.isoformat()


def by_kind(models: Sequence[arguments.RoutedModel]) -> dict[Kind, str]:
    """Return one digest per kind from those named for one kind, and for every other."""
    named = {one.kind: one.sha256 for one in models if one.kind is not None}
    for_all = [one.sha256 for one in models if one.kind is None]
    return {kind: for_all[0] for kind in Kind if for_all} | named


@release.command()
def prepare(
    model: Annotated[
        list[arguments.RoutedModel],
        typer.Option(
            parser=arguments.routed_model,
            metavar="MODEL",
            help="SHA256 of a model for every kind, or KIND=SHA256; repeatable.",
        ),
    ],
    why: Why = "new features and models",
    model_only: Annotated[
        bool, typer.Option("--model-only", help="Use the live release's features; only the models change.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            parser=arguments.endpoint,
            metavar="NAME",
            help="SageMaker endpoint that holds the model; default: rank in process.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fill the idle colour, put the models beside it, and record a new release."""
    from release.models import routes_of
    from release.prepare import NewRelease
    from release.prepare import prepare as run

    routes = routes_of(by_kind(model), endpoint=endpoint)
    context = _context(as_json)
    done = run(context, NewRelease(routes=routes, why=why, model_only=model_only))
    _tell_mlflow(context)
    if as_json:
        _print(done)
        return
    print(f"{done.id} is prepared in {done.colour} with mapping {done.mapping_version}")
    print(f"next: stillpoint release check {done.id}")


@release.command()
def check(release_id: ReleaseId, as_json: Json = False) -> None:
    """Run the gate. Any red check refuses the switch."""
    from release.check import check as run

    context = _context(as_json)
    report = run(context, release_id)
    if as_json:
        _print({**report.model_dump(mode="json"), "passed": report.passed})
    else:
        table = Table("check", "", "found", "expected")
        for one in report.results:
            table.add_row(one.name, "green" if one.passed else "RED", one.found, one.expected)
        Console().print(table)
        print(f"report: {context.lake.root}/{report.html}")
        print(
            f"next: stillpoint release switch {release_id}" if report.passed else "the gate is red; nothing was changed"
        )
    if not report.passed:
        raise typer.Exit(1)


@release.command()
def switch(
    release_id: ReleaseId,
    why: Why = "switch",
    force: Annotated[
        str | None,
        typer.Option(
            parser=arguments.reason,
            metavar="REASON",
            help="Switch without a recent green report, for this reason (kept).",
        ),
    ] = None,
    without_hanging: Annotated[
        bool, typer.Option("--without-hanging", help="Go on without workers that do not load it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a checked release live."""
    from release.switch import switch as run

    context = _context(as_json)
    done = run(context, release_id, why=why, force=force, without_hanging=without_hanging)
    _tell_mlflow(context)
    _switched(done, as_json)


@release.command()
def rollback(why: Why = "roll back", as_json: Json = False) -> None:
    """Make the release before this one live again."""
    from release.switch import roll_back

    context = _context(as_json)
    done = roll_back(context, why=why)
    _tell_mlflow(context)
    _switched(done, as_json)


def _switched(done: Any, as_json: bool) -> None:
    if as_json:
        _print(asdict(done))
        return
    print(f"{done.release.id} is live: generation {done.pointer.generation}, colour {done.release.colour}")
    print(f"registry: {done.registry_uri}")
    print(f"workers loaded in {done.load_seconds:.2f} s, answered with it {done.switch_seconds:.2f} s after the switch")
    for name in done.died:
        print(f"died meanwhile: {name}")
    for name in done.hanging:
        print(f"HANGS, still answers with another release: {name}")


@release.command()
def retire(
    release_id: Annotated[
        str | None,
        typer.Argument(parser=arguments.release_id, metavar="RELEASE", help="By default the rollback target."),
    ] = None,
    why: Why = "retired",
    as_json: Json = False,
) -> None:
    """End a release for good and empty its colour."""
    from release.retire import retire as run

    context = _context(as_json)
    ended = run(context, release_id, why=why)
    _tell_mlflow(context)
    _print({"release": ended}) if as_json else print(f"{ended} is retired")


@release.command()
def status(as_json: Json = False) -> None:
    """Show both colours side by side: what is live, what it holds, who serves it."""
    from release.status import status as run

    found = run(_context(as_json))
    if as_json:
        _print(found.document())
        return
    table = Table("", *(f"{one.colour}{' (live)' if one.live else ''}" for one in found.colours))
    rows: dict[str, Callable[[Any], str]] = {
        "release": lambda one: f"{one.release or '–'} {one.state or ''}",
        "prepared": lambda one: f"{one.prepared_at:%Y-%m-%d %H:%M} UTC" if one.prepared_at else "–",
        "registry": lambda one: one.registry or "–",
        "mapping": lambda one: f"{one.mapping_version or '–'} (fill marker: {one.sentinel})",
        "models": lambda one: ", ".join(f"{kind} {sha[:8]}" for kind, sha in one.models.items()) or "–",
        "entities": lambda one: ", ".join(f"{name} {count:,}" for name, count in one.entities.items()) or "–",
        "per view": lambda one: "\n".join(f"{name} {count:,}" for name, count in one.per_view.items()) or "–",
        "bytes per user": lambda one: f"{one.bytes_per_user:,.0f}" if one.bytes_per_user else "–",
        "stream writes": lambda one: "yes" if one.streamed_into else "no",
        "served by": lambda one: "\n".join(one.served_by) or "–",
        "canaries": lambda one: "–" if one.canaries_wrong is None else f"{one.canaries_wrong} wrong",
        "report": lambda one: one.report or "–",
        "problem": lambda one: one.problem or "–",
    }
    for name, show in rows.items():
        table.add_row(name, *(show(one) for one in found.colours))
    Console().print(table)
    lag = found.control_generation - (found.acknowledged_generation or 0)
    print(f"generation {found.generation or 'none'}, rollback target {found.rollback_target or 'none'}, "
          f"announced {found.announced or 'none'}")  # fmt: skip
    print(f"stream: {found.stream or 'not running'}; {lag} control generations not acknowledged")


@release.command()
def history(as_json: Json = False) -> None:
    """Show who did what, when and why."""
    from release.status import history as run

    events = run(_context(as_json))
    if as_json:
        _print([asdict(event) for event in events])
        return
    table = Table("when (UTC)", "release", "what", "by", "why", "report")
    for event in events:
        table.add_row(
            f"{event.at:%Y-%m-%d %H:%M:%S}", event.release, event.what, event.by, event.why, event.report or ""
        )
    Console().print(table)


@release.command()
def rehearse(
    url: Annotated[
        str | None,
        typer.Option(parser=arguments.url, metavar="URL", help="The service; by default the one of the settings."),
    ] = None,
    moves: Annotated[int, typer.Option(min=1, max=500, help="Switches and rollbacks; even ends where it began.")] = 10,
    rate: Annotated[float, typer.Option(parser=arguments.rate, metavar="RATE", help="Requests per second.")] = 50.0,
    seed: Annotated[
        int | None,
        typer.Option(parser=arguments.seed, metavar="SEED", help="Decides pauses and faults; the setting by default."),
    ] = None,
    kill: Annotated[
        list[int] | None,
        typer.Option(
            parser=arguments.process,
            metavar="PID",
            help="Process of the service (its workers too) that faults may kill; repeatable.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            parser=arguments.token, metavar="TOKEN", envvar="STILLPOINT_TOKEN", help="Bearer token of the service."
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option(parser=arguments.folder, metavar="FOLDER", help="Where the report goes.")
    ] = Path("reports"),
    as_json: Json = False,
) -> None:
    """Move the live release back and forth under load, with faults, and judge every answer."""
    from release.rehearsal.history import write_lines
    from release.rehearsal.plan import Fault, plan_flips
    from release.rehearsal.report import plot, text
    from release.rehearsal.run import break_servers
    from release.rehearsal.run import rehearse as run

    context = _context(as_json)
    settings = context.settings
    chosen = settings.seed if seed is None else seed
    faults = [fault for fault in Fault if kill or fault is not Fault.KILL_WORKER]
    address = url or f"http://{settings.http_host}:{settings.http_port}"
    planned = plan_flips(seed=chosen, flips=moves, faults=faults)
    found, recorded = run(
        context, address, planned, seed=chosen, rate=rate, breaks=break_servers(context, kill), token=token
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rehearsal.json").write_text(found.model_dump_json(indent=1) + "\n")
    (folder / "rehearsal.txt").write_text(text(found) + "\n")
    (folder / "rehearsal.jsonl").write_text("".join(f"{line}\n" for line in write_lines(recorded)))
    plot(found, recorded.answers, folder / "rehearsal.svg")
    if as_json:
        _print(found)
    else:
        print(text(found))
        print(f"report: {folder}/rehearsal.txt, .json, .svg; every answer: .jsonl")
    if not found.verdict.passed:
        raise typer.Exit(1)


def retrain(
    store: Annotated[Which, typer.Option(help="Whose definitions the snapshot uses.")] = Which.LIVE,
    resume: Annotated[
        str | None,
        typer.Option(
            parser=arguments.digest, metavar="MODEL", help="Go on with this model (SHA256) instead of training another."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Snapshot, train, prepare, check and switch: a new model live, from one command.

    Each step may be killed; the next run within a day goes on where it was, or with the model of `--resume`. A rollback target that is older than
    STILLPOINT_ROLLBACK_KEEP is retired on the way; a younger one stops it, and says until when.
    """
    from release.retrain import plan_retrain
    from release.retrain import retrain as run

    context = _context(as_json)
    if dry_run:
        steps = plan_retrain(context, store=store.value, resume=resume)
        _print({"steps": steps}) if as_json else print("\n".join(steps))
        return
    done = run(context, store=store.value, resume=resume)
    _tell_mlflow(context)
    _switched(done, as_json)
