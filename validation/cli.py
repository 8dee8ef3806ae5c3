"""The verbs of `stillpoint validate`."""

import json
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from stillpoint.cli import arguments, moments
from stillpoint.clock import system_clock
from stillpoint.lake.files import write_whole
from stillpoint.releases.colour import Colour
from stillpoint.settings import Settings

validate = typer.Typer(help="Check events, the lake's features and snapshots.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Page = Annotated[
    Path | None,
    typer.Option("--html", parser=arguments.destination, metavar="FILE", help="Also write a page that reads offline."),
]


def _lake() -> Any:
    from stillpoint.lake.app_lake import open_lake

    return open_lake(Settings.load())


def _tell(outcomes: list[Any], as_json: bool, html: Path | None = None) -> None:
    """Print the results; the exit code is 1 if any check failed."""
    if html is not None:
        from validation.page import page

        write_whole(html, page(outcomes))
    if as_json:
        document = [{**outcome.model_dump(mode="json"), "passed": outcome.passed} for outcome in outcomes]
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        table = Table("what", "rows", "", "found")
        for outcome in outcomes:
            red = [finding.sentence() for finding in outcome.failures()]
            verdict = "green" if outcome.passed else "RED"
            table.add_row(
                outcome.subject, f"{outcome.rows:,}", verdict, "\n".join(red) or f"{len(outcome.findings)} checks hold"
            )
        Console().print(table)
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


@validate.command()
def events(html: Page = None, as_json: Json = False) -> None:
    """Check the lake's events: required columns, closed sets, clocks."""
    from stillpoint.app.load import load_app
    from validation.batches import batches
    from validation.expectations import validate as run
    from validation.suites import event_suite

    lake = _lake()
    _tell(
        [run(event_suite(load_app(Settings.load().app).events), batches(lake, "events"), at=system_clock())],
        as_json,
        html,
    )


@validate.command()
def lake(html: Page = None, as_json: Json = False) -> None:
    """Check every feature view's rows in the lake against its declaration."""
    from stillpoint.lake.datasets import feature_dataset
    from validation.batches import batches
    from validation.expectations import validate as run
    from validation.suites import view_suite

    opened = _lake()
    _tell(
        [
            run(view_suite(view), batches(opened, feature_dataset(view)), at=system_clock())
            for view in opened.features.stored
        ],
        as_json,
        html,
    )


@validate.command()
def snapshot(
    snapshot_id: Annotated[
        str,
        typer.Argument(parser=arguments.snapshot_id, metavar="SNAPSHOT", help="As `stillpoint snapshot` printed it."),
    ],
    html: Page = None,
    as_json: Json = False,
) -> None:
    """Check a training snapshot: labels of both classes, ranges and closed sets of every feature."""
    from stillpoint.snapshots import load_snapshot
    from validation.expectations import validate as run
    from validation.suites import snapshot_suite

    lake = _lake()
    rows = load_snapshot(lake, snapshot_id).rows
    _tell([run(snapshot_suite(lake.features), [rows], at=system_clock())], as_json, html)


@validate.command()
def online(
    colour: Annotated[Colour, typer.Option(help="Which colour's store is looked at.")],
    sample: Annotated[
        int, typer.Option(parser=arguments.sample, metavar="COUNT", help="How many users, and how many contents.")
    ] = 1_000,
    html: Page = None,
    as_json: Json = False,
) -> None:
    """Check a sample of a colour's online rows against the declarations."""
    from stillpoint.app.load import load_app
    from stillpoint.clock import to_micros
    from stillpoint.releases.colour import project_name
    from stillpoint.stores.reading.plan import ReadPlan
    from stillpoint.stores.reading.reader import OnlineReader
    from stillpoint.stores.redis.connection import connect
    from validation.expectations import validate as run
    from validation.online import online_tables
    from validation.suites import view_suite

    now, project = system_clock(), project_name(colour)
    settings = Settings.load()
    client = connect(settings.connection(colour))
    features = load_app(settings.app).features
    reader = OnlineReader(client, ReadPlan.of_features(project, features))
    tables = online_tables(client, reader, project, features, count=sample, now_us=to_micros(now))
    _tell([run(view_suite(view), [table], at=now) for view, table in tables], as_json, html)


@validate.command()
def parity(
    since: Annotated[
        date | None,
        typer.Option(parser=moments.day, metavar="DAY", help="First day of predictions, UTC; default: yesterday."),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            parser=arguments.sample, metavar="COUNT", help="How many of the newest predictions are looked at."
        ),
    ] = 1_000,
    lag_limit: Annotated[
        float,
        typer.Option(
            parser=arguments.seconds, metavar="SECONDS", help="Seconds until an arrived event must be served."
        ),
    ] = 5.0,
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            parser=arguments.destination,
            metavar="FILE",
            help="Also write the counts for Prometheus (node exporter's text files).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute what was served from the events that had arrived, and compare value by value."""
    from stillpoint.app.load import load_app
    from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
    from stillpoint.features.streamed.history import AppHistory
    from validation.parity_run import StalenessLimits, check_parity

    now = system_clock()
    report = check_parity(
        _lake(),
        at=now,
        history=AppHistory(load_app(Settings.load().app), RememberingEncoder(WordLlamaEncoder())),
        first=since or now.date() - timedelta(days=1),
        sample=sample,
        limits=StalenessLimits(streamed=timedelta(seconds=lag_limit)),
    )
    if metrics_file is not None:
        from validation.parity_run import metrics_text

        write_whole(metrics_file, metrics_text(report))
    if as_json:
        sys.stdout.write(json.dumps({**report.model_dump(mode="json"), "passed": report.passed}) + "\n")
    else:
        console = Console()
        console.print(_parity_table(report))
        console.print(
            f"{report.predictions:,} predictions of {report.users:,} users; {report.unexplained} unexplained differences; "
            f"{report.lagging} rows behind what had arrived (longest {report.longest_lag_seconds:.2f} s), {report.stale} of "
            f"them beyond {lag_limit:g} s"
            if report.predictions
            else "nothing was served in that time: there is nothing to compare, which is not a pass"
        )
    if not report.passed:
        raise typer.Exit(1)


@validate.command()
def drift(
    snapshot_id: Annotated[
        str,
        typer.Argument(
            parser=arguments.snapshot_id, metavar="SNAPSHOT", help="The snapshot that the live model was trained on."
        ),
    ],
    since: Annotated[
        date | None,
        typer.Option(parser=moments.day, metavar="DAY", help="First day that is compared, UTC; default: yesterday."),
    ] = None,
    psi: Annotated[
        float | None,
        typer.Option(parser=arguments.drift, metavar="LIMIT", help="Limit of the population stability index."),
    ] = None,
    ks: Annotated[
        float | None,
        typer.Option(
            parser=arguments.drift, metavar="LIMIT", help="Limit of the Kolmogorov–Smirnov distance of numbers."
        ),
    ] = None,
    js: Annotated[
        float | None,
        typer.Option(parser=arguments.drift, metavar="LIMIT", help="Limit of the Jensen–Shannon distance of texts."),
    ] = None,
    centroid: Annotated[
        float | None,
        typer.Option(
            parser=arguments.drift, metavar="LIMIT", help="Limit of the cosine distance of embeddings' means."
        ),
    ] = None,
    nulls: Annotated[
        float | None,
        typer.Option(parser=arguments.drift, metavar="LIMIT", help="Limit of the difference of the shares of nulls."),
    ] = None,
    least: Annotated[
        int | None,
        typer.Option(parser=arguments.sample, metavar="COUNT", help="Values that both sides must have to be compared."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(parser=arguments.destination, metavar="FILE", help="Also write the report as a page with plots."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a snapshot's features with the lake's newest rows and with served ones; exit code 1 if any has drifted.

    Limits that are not given are those of the settings, `STILLPOINT_DRIFT_STABILITY_INDEX`, `…_KS_DISTANCE`,
    `…_JS_DISTANCE`, `…_CENTROID_SHIFT`, `…_NULL_SHARE` and `…_MINIMUM_VALUES`.
    """
    from stillpoint.snapshots import load_snapshot
    from validation.drift import DriftLimits
    from validation.drift_page import page
    from validation.drift_run import check_drift

    limits = DriftLimits.load(
        stability_index=psi,
        ks_distance=ks,
        js_distance=js,
        centroid_shift=centroid,
        null_share=nulls,
        minimum_values=least,
    )
    now, lake = system_clock(), _lake()
    first = since or now.date() - timedelta(days=1)
    report = check_drift(lake, load_snapshot(lake, snapshot_id).rows, snapshot_id, since=first, at=now, limits=limits)
    if html is not None:
        write_whole(html, page(report))
    if as_json:
        sys.stdout.write(json.dumps({**report.model_dump(mode="json"), "passed": report.passed}) + "\n")
    else:
        table = Table("sample", "feature", "measure", "value", "limit")
        for sample, one in report.drifted:
            table.add_row(sample, one.feature, one.measure, f"{one.value:.3f}", f"{one.limit:g}")
        console = Console()
        if report.drifted:
            console.print(table)
        elif not report.compared:
            console.print(
                f"too few values since {first}, or in the snapshot: there is nothing to compare, which is not a pass"
            )
        else:
            console.print(f"no drift in {sum(map(len, report.moved.values()))} measures")
    if not report.passed:
        raise typer.Exit(1)


def _parity_table(report: Any) -> Table:
    """Return one line per view, and one per feature that differs."""
    table = Table(
        "what", *(Column(name, justify="right") for name in ("compared", "equal", "mismatched", "missing", "extra"))
    )
    table.add_column("for example")
    for view in dict.fromkeys(one.feature.partition(":")[0] for one in report.features):
        own = [one for one in report.features if one.feature.startswith(f"{view}:")]
        sums = (
            sum(getattr(one, name) for one in own) for name in ("compared", "equal", "mismatched", "missing", "extra")
        )
        table.add_row(f"{view}, {len(own)} features", *(f"{count:,}" for count in sums), "")
        for one in own:
            if one.equal < one.compared:
                counts = (one.compared, one.equal, one.mismatched, one.missing, one.extra)
                apart = f" (up to {one.largest_difference:g} apart)" if one.mismatched else ""
                example = (one.examples[0] if one.examples else "") + apart
                table.add_row("  " + one.feature.partition(":")[2], *(f"{count:,}" for count in counts), example)
    return table
