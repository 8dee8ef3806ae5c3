"""Which checks of data does the command line offer?"""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from stillpoint.clock import system_clock
from stillpoint.settings import Settings

validate = typer.Typer(help="Check events, the lake's features and snapshots.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _lake() -> Any:
    from stillpoint.lake import Lake
    from stillpoint.objects import open_objects

    settings = Settings.load()
    return Lake(open_objects(settings.lake, settings.aws_client_arguments()))


def _batches(lake: Any, dataset: str) -> Iterator[pa.Table]:
    """Yield the committed rows of a dataset, a bounded number at a time."""
    from validation.expectations import BATCH_ROWS

    for batch in lake.dataset(dataset).to_batches(batch_size=BATCH_ROWS):
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


def _tell(outcomes: list[Any], as_json: bool) -> None:
    """Print what was found; the exit code is 1 if anything is red."""
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
def events(as_json: Json = False) -> None:
    """Check the lake's events: required columns, closed sets, clocks."""
    from validation.expectations import validate as run
    from validation.suites import event_suite

    lake = _lake()
    _tell([run(event_suite(), _batches(lake, "events"), at=system_clock())], as_json)


@validate.command()
def lake(as_json: Json = False) -> None:
    """Check every feature view's rows in the lake against its declaration."""
    from stillpoint.features.declarations import VIEWS, Origin
    from stillpoint.lake import feature_dataset
    from validation.expectations import validate as run
    from validation.suites import view_suite

    opened = _lake()
    stored = [view for view in VIEWS if view.origin is not Origin.MAPPING]
    _tell(
        [run(view_suite(view), _batches(opened, feature_dataset(view)), at=system_clock()) for view in stored], as_json
    )


@validate.command()
def snapshot(
    snapshot_id: Annotated[str, typer.Argument(help="As `stillpoint snapshot` printed it.")], as_json: Json = False
) -> None:
    """Check a training snapshot: labels of both classes, ranges and closed sets of every feature."""
    import io

    import pyarrow.parquet as pq

    from stillpoint.features.declarations import RANKER_SERVICE
    from validation.expectations import validate as run
    from validation.suites import snapshot_suite

    data = _lake().objects.get(f"snapshots/{snapshot_id}/rows.parquet")
    _tell([run(snapshot_suite(RANKER_SERVICE), [pq.read_table(io.BytesIO(data))], at=system_clock())], as_json)
