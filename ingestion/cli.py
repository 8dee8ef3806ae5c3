"""The verbs of the receiver and its lake: events, stream, backfill, daily, vacuum."""

import json
import logging
import os
import signal
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from simulation.command import simulate
from stillpoint.cli import arguments, moments
from stillpoint.clock import system_clock
from stillpoint.errors import InvalidInput
from stillpoint.settings import Settings

events = typer.Typer(help="Make, publish and watch app events.", no_args_is_help=True)
events.command()(simulate)

_SHOWN = 100
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _client(settings: Settings, service: str) -> Any:
    import boto3

    make: Any = boto3.client
    return make(service, **settings.aws_client_arguments())


def _lake(settings: Settings) -> Any:
    from stillpoint.lake.app_lake import open_lake

    return open_lake(settings)


def _print(result: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        Console().print(sentence, markup=False, highlight=False, soft_wrap=True)


@events.command()
def publish(
    file: Annotated[
        Path, typer.Argument(parser=arguments.source_file, metavar="FILE", help="One JSON event a line; also gzipped.")
    ],
    log_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            parser=arguments.log_format,
            metavar="NAME",
            help="Read a log of another system that the app declares.",
        ),
    ] = None,
    history: Annotated[
        bool,
        typer.Option("--history", help="Write to the lake, each event as if received when it happened; for old logs."),
    ] = False,
    rebase: Annotated[bool, typer.Option("--rebase", help="Shift the times so that the newest is now.")] = False,
    with_refused: Annotated[
        bool, typer.Option("--with-refused", help="Also send lines that are no events: the stream quarantines them.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Put recorded events into Kinesis, in their order. Exit code 1 if a line is no event; the others are published."""
    from ingestion.click_log import rows_as_events
    from ingestion.publish import judge, read_lines, user_of
    from ingestion.recorded_history import load_history
    from stillpoint.app.load import load_app
    from stillpoint.errors import DataRefused
    from stillpoint.events.parsing import PayloadParser
    from stillpoint.events.stream import put_events

    settings = Settings.load()
    app, now = load_app(settings.app), system_clock()
    parser = PayloadParser(app.events)
    recorded = read_lines(file)
    if log_format is not None:
        recorded = iter(rows_as_events(recorded, app.log(log_format)))
    judged = judge(recorded, parser, now=now, rebase=rebase)
    refused = judged.refused
    if refused and not judged.events and not with_refused:
        raise DataRefused(
            f"none of {len(refused):,} lines of {file} is an event, and nothing was published; {refused[0].sentence()}; "
            "expected one JSON event a line, as `stillpoint events simulate --output` writes them"
        )
    kept = [one.line._replace(user=user_of(one.line.payload)) for one in refused if with_refused and not one.line.cut]
    lines = [*judged.events, *kept] if log_format else sorted([*judged.events, *kept])
    report: dict[str, Any] = {
        "published": len(lines),
        "refused": len(refused),
        "reasons": [{"line": one.line.number, "field": one.field, "reason": one.reason} for one in refused[:_SHOWN]],
    }
    if history:
        counts = load_history(_lake(settings), judged.events, parser, at=now)
        report = {"history": dict(counts), **report, "published": 0}
        loaded = (
            f"{counts.total():,} events became history of the lake" if counts else "the lake holds this history already"
        )
        said = [f"{loaded}; {len(refused):,} lines are no events"]
    else:
        put_events(_client(settings, "kinesis"), settings.event_stream, [(line.user, line.payload) for line in lines])
        said = [f"{len(lines):,} lines published to {settings.event_stream}, {len(refused):,} are no events"]
    said += [f"  {one.sentence()}" for one in refused[:10]]
    if len(refused) > 10:
        said.append(f"  … and {len(refused) - 10:,} more; --json lists {_SHOWN}")
    _print(report, as_json, "\n".join(said))
    if len(refused) > len(kept):
        raise typer.Exit(1)


@events.command()
def tail(
    seconds: Annotated[
        float, typer.Option(parser=arguments.seconds, metavar="SECONDS", help="How long to watch.")
    ] = 60.0,
    start: Annotated[
        str,
        typer.Option(parser=moments.start, metavar="START", help="LATEST, TRIM_HORIZON or a time; UTC without a zone."),
    ] = "LATEST",
) -> None:
    """Print events as they arrive in Kinesis, one JSON line each."""
    from ingestion.kinesis_shards import ShardReader

    settings = Settings.load()
    reader = ShardReader(_client(settings, "kinesis"), settings.event_stream)
    positions = reader.initial(start, now=system_clock())
    end = system_clock() + timedelta(seconds=seconds)
    while system_clock() < end:
        records, positions = reader.read(positions, 1_000)
        for record in records:
            sys.stdout.write(record.data.decode(errors="replace") + "\n")
        sys.stdout.flush()


@events.command()
def reconcile(as_json: _Json = False) -> None:
    """Compare verdicts with stored rows, and the lake with the online store of every colour in use. Exit code 1 on a difference."""
    from ingestion.reconcile import reconcile as run
    from stillpoint.releases.write_targets import read_control
    from stillpoint.stores.redis.connection import connect

    settings = Settings.load()
    lake = _lake(settings)
    targets = read_control(lake.objects).targets
    result = run(lake, {t.project: (connect(settings.connection(t.colour)), t.views) for t in targets}).to_dict()
    lines = [f"{result['records']} records: " + ", ".join(f"{v} {n}" for v, n in sorted(result["verdicts"].items()))]
    lines += [
        f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items())
        for name, counts in result["views"].items()
    ]
    lines += [f"commit {key}: its files do not hold its sums" for key in result["unequal_commits"]]
    lines += [f"file {path}: gone, unreadable or of another length" for path in result["damaged_files"]]
    _print(result, as_json, "\n".join([*lines, f"difference: {result['difference']}"]))
    if result["difference"]:
        raise typer.Exit(1)


@events.command()
def compact(
    to: Annotated[
        date | None,
        typer.Option(
            "--to",
            parser=moments.day,
            metavar="DAY",
            help="Last UTC day to compact; the day before yesterday by default.",
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Merge the small files of closed days into tables/, which any Spark SQL can read, and those of later days beside them.

    Commits older than an hour are folded into one object. Run it every hour, beside everything else.
    """
    from ingestion.compact import compact as run
    from ingestion.compact import merge
    from ingestion.log_checkpoint import FOLD_AFTER, fold
    from stillpoint.leases.names import compact_lease

    settings = Settings.load()
    lake = _lake(settings)
    now = system_clock()
    before = (to or (now.date() - timedelta(days=2))) + timedelta(days=1)
    if before > now.date():
        raise InvalidInput(f"--to {to} is not over yet; the newest closed day is yesterday")
    holder = f"stillpoint events compact, process {os.getpid()}"
    lease = compact_lease(lake.objects, holder=holder, clock=system_clock)
    lease.acquire()
    try:
        counts = run(lake, before=before, at=now, budget=settings.job_budget, folder=settings.job_folder)
        merged = merge(lake, since=before, at=now, budget=settings.job_budget, folder=settings.job_folder)
        folded = fold(lake, before=now - FOLD_AFTER)
    finally:
        lease.release()
    said = [
        f"{what}: " + (", ".join(f"{name} {n:,}" for name, n in found.items()) or "none")
        for what, found in (("rows compacted", counts), ("files of open days merged", merged))
    ]
    said.append(f"commits folded: {folded:,}")
    _print({"compacted_rows": counts, "merged_files": merged, "folded_commits": folded}, as_json, "\n".join(said))


def vacuum(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    as_json: _Json = False,
) -> None:
    """Delete what the lake no longer needs: superseded files, killed writes, old checkpoints of the log of commits, quarantine and
    served log past their retention, and files that only ended releases used. Run it once a day, beside everything else.

    What a reader, an unfinished job or a rollback may still want stays; STILLPOINT_VACUUM_GRACE, _QUARANTINE_DAYS, _SERVED_DAYS and
    _RELEASES_DAYS say for how long.
    """
    from ingestion.vacuum.run import retention
    from ingestion.vacuum.run import vacuum as run

    settings = Settings.load()
    report = run(_lake(settings), retention(settings), clock=system_clock, dry_run=dry_run)
    kinds = {str(kind): {"files": count, "bytes": report.bytes[kind]} for kind, count in sorted(report.files.items())}
    verb = "would delete" if dry_run else "deleted"
    said = [f"{verb} {one['files']:,} files, {one['bytes']:,} bytes: {kind}" for kind, one in kinds.items()]
    _print({"dry_run": dry_run, "kinds": kinds}, as_json, "\n".join(said) or f"{verb} nothing")


def stream(
    start: Annotated[
        str | None,
        typer.Option(
            parser=moments.start,
            metavar="START",
            help="Where a new query begins: TRIM_HORIZON, LATEST or a time, UTC without a zone; TRIM_HORIZON by default, and "
            "to be given where another query has filled the lake.",
        ),
    ] = None,
    master: Annotated[
        str,
        typer.Option(
            parser=arguments.spark_master, metavar="MASTER", help="Spark's master; empty takes the platform's."
        ),
    ] = "local[2]",
    metrics_port: Annotated[
        int, typer.Option(parser=arguments.port, metavar="PORT", help="Prometheus port on loopback; 0 serves none.")
    ] = 0,
) -> None:
    """Run the receiver until SIGTERM or Ctrl-C. A second one refuses and names the first."""
    from ingestion.spark import SparkEnded
    from ingestion.supervisor import Supervisor
    from stillpoint.local.process import refuse_address
    from stillpoint.local.records import record_process

    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s: %(message)s", force=True
    )  # its own log, instead of the file for libraries
    settings = Settings.load()
    if metrics_port:
        refuse_address("the stream's metrics", "127.0.0.1", metrics_port, "give another --metrics-port")
    supervisor = Supervisor(settings, clock=system_clock, start=start, master=master or None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    if metrics_port:
        supervisor.metrics.serve(metrics_port)
    address = f"127.0.0.1:{metrics_port}" if metrics_port else None
    try:
        with record_process(settings.home, "stream", address=address):
            supervisor.run()
    except SparkEnded as ended:
        logging.getLogger(__name__).error("%s; starting anew", ended)
        os.execv(sys.executable, [sys.executable, "-m", "stillpoint", *sys.argv[1:]])


def backfill(
    first: Annotated[
        date | None,
        typer.Option("--from", parser=moments.day, metavar="DAY", help="First UTC day; all by default."),
    ] = None,
    last: Annotated[
        date | None, typer.Option("--to", parser=moments.day, metavar="DAY", help="Last UTC day, today by default.")
    ] = None,
    spark: Annotated[bool, typer.Option(help="Spread the users over Spark's executors.")] = True,
    master: Annotated[
        str,
        typer.Option(
            parser=arguments.spark_master, metavar="MASTER", help="Spark's master; empty takes the platform's."
        ),
    ] = "local[2]",
    as_json: _Json = False,
) -> None:
    """Compute the streamed views' rows of recorded days again, by the stream's definition."""
    from ingestion.backfill import backfill as run
    from ingestion.spark import spark_session
    from stillpoint.app.load import load_app
    from stillpoint.lake.datasets import DateRange
    from stillpoint.leases.active_jobs import announce_job

    now = system_clock()
    moments.in_order(first, last)
    settings = Settings.load()
    session = spark_session(settings, "stillpoint-backfill", master=master or None) if spark else None
    lake = _lake(settings)
    with announce_job(lake.objects, "stillpoint backfill", clock=system_clock):
        counts = run(lake, DateRange(first, last or now.date()), at=now, app=load_app(settings.app), spark=session)
    _print(counts, as_json, "rows written: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


def daily(
    first: Annotated[
        date | None,
        typer.Option("--from", parser=moments.day, metavar="DAY", help="First UTC day; the last one by default."),
    ] = None,
    last: Annotated[
        date | None, typer.Option("--to", parser=moments.day, metavar="DAY", help="Last UTC day, today by default.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Compute the daily views, write them to the lake and to every colour in use."""
    from ingestion.daily import daily as run
    from stillpoint.app.load import load_app
    from stillpoint.encoder import WordLlamaEncoder
    from stillpoint.leases.active_jobs import announce_job
    from stillpoint.releases.write_targets import read_control
    from stillpoint.stores.redis.connection import connect
    from stillpoint.stores.redis.writer import OnlineWriter

    now = system_clock()
    end = last or now.date()
    begin = first or end
    moments.in_order(begin, end)
    settings = Settings.load()
    lake = _lake(settings)
    writers = {
        target.project: OnlineWriter(connect(settings.connection(target.colour)), target.project)
        for target in read_control(lake.objects).targets
    }
    with announce_job(lake.objects, "stillpoint daily", clock=system_clock):
        counts = run(
            lake,
            begin,
            end,
            at=now,
            app=load_app(settings.app),
            encoder=WordLlamaEncoder(),
            writers=writers,
            budget=settings.job_budget,
            folder=settings.job_folder,
        )
    _print(counts, as_json, "rows written: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
