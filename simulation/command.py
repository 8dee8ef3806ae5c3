"""`stillpoint events simulate`: writes the events, users and catalogue of a simulated world."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from simulation.faults import Faults
from stillpoint.cli import arguments, moments
from stillpoint.clock import system_clock
from stillpoint.settings import Settings

_FAULTS = Faults()


def simulate(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=arguments.destination,
            metavar="FILE",
            help="Write live events to this file, one JSON object a line, in arrival order.",
        ),
    ] = None,
    start: Annotated[
        date | None,
        typer.Option(parser=moments.day, metavar="DAY", help="First day, UTC; default: so that the last is yesterday."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3_660, help="How many days.")] = 7,
    users: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many users.")] = 2_000,
    contents: Annotated[int, typer.Option(min=20, max=5_000, help="How many contents.")] = 300,
    seed: Annotated[
        int | None,
        typer.Option(
            parser=arguments.seed, metavar="SEED", help="The same seed gives the same bytes; default: the setting."
        ),
    ] = None,
    context_effect: Annotated[
        bool, typer.Option(help="Whether searches, exertion and abandoned plays change what users want.")
    ] = True,
    offline: Annotated[
        float, typer.Option(parser=arguments.share, metavar="SHARE", help="Share of sessions delivered later.")
    ] = _FAULTS.offline_sessions,
    hourly_watches: Annotated[
        float, typer.Option(parser=arguments.share, metavar="SHARE", help="Share of users whose watch reports hourly.")
    ] = _FAULTS.hourly_watches,
    late: Annotated[
        float,
        typer.Option(parser=arguments.share, metavar="SHARE", help="Share of events 11 minutes to 30 hours late."),
    ] = _FAULTS.late,
    duplicates: Annotated[
        float, typer.Option(parser=arguments.share, metavar="SHARE", help="Share of events that arrive twice.")
    ] = _FAULTS.duplicates,
    malformed: Annotated[
        float, typer.Option(parser=arguments.share, metavar="SHARE", help="Share of events that are broken.")
    ] = _FAULTS.malformed,
    fast_clocks: Annotated[
        float, typer.Option(parser=arguments.share, metavar="SHARE", help="Share of users whose clock is ahead.")
    ] = _FAULTS.fast_clocks,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Simulate users of the app: history for the lake, or with --output live events for `stillpoint events publish`."""
    today = system_clock().date()
    first = start or today - timedelta(days=days)
    if output is None and days > (today - first).days:
        raise typer.BadParameter(
            f"{days} days from {first} on are not over yet; history for the lake ends yesterday at the latest, "
            f"{today - timedelta(days=1)} UTC"
        )
    from simulation.history import write_history
    from simulation.recording import write_recording
    from simulation.scenario import Scenario
    from stillpoint.lake.app_lake import open_lake

    settings = Settings.load()
    scenario = Scenario(
        start=first,
        days=days,
        users=users,
        contents=contents,
        seed=settings.seed if seed is None else seed,
        context_effect=context_effect,
        faults=Faults(
            offline_sessions=offline,
            hourly_watches=hourly_watches,
            late=late,
            duplicates=duplicates,
            malformed=malformed,
            fast_clocks=fast_clocks,
        ),
    )
    report: dict[str, object] = {"simulated": True, "start": first.isoformat(), "days": days, "seed": scenario.seed}
    if output is not None:
        report |= {"file": str(output), "records": write_recording(output, scenario.deliveries())}
    else:
        lake = open_lake(settings)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("history", total=days)
            counts = write_history(
                lake,
                scenario,
                max_event_age=timedelta(seconds=settings.max_event_age),
                progress=lambda day: bar.update(task, advance=1, description=f"history of {day}"),
            )
        report |= {"lake": lake.root, "records": counts.total(), "verdicts": dict(sorted(counts.items()))}
    if as_json:
        typer.echo(json.dumps(report))
    else:
        Console().print(f"simulated {report['records']} records into {report.get('file') or report.get('lake')}")
