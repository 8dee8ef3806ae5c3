"""`stillpoint snapshot`, `train`, `deploy`, `undeploy` and `evaluate`: training from the command line.

Builds the clients from the settings and passes them in; the work is in the modules beside it.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stillpoint.cli import arguments, moments
from stillpoint.cli.feast import Which
from stillpoint.clock import system_clock
from stillpoint.errors import NotFound
from stillpoint.settings import Settings
from stillpoint.snapshot_definition import FeaturesFrom

if TYPE_CHECKING:
    from stillpoint.lake.tables import Lake
    from stillpoint.model import ModelBundle
    from stillpoint.snapshots import Expectation, FeatureDifference, SnapshotManifest
    from training.evaluate import Estimate
    from training.train import Evaluation


class TrainingPlace(StrEnum):
    """Where a model is trained."""

    HERE = "here"
    SAGEMAKER = "sagemaker"


AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]
SnapshotId = Annotated[
    str | None,
    typer.Argument(parser=arguments.snapshot_id, metavar="SNAPSHOT", help="Id of a snapshot; default: the newest."),
]


def snapshot(
    cutoff: Annotated[
        datetime | None,
        typer.Option(
            parser=moments.moment,
            metavar="TIME",
            help="Use what was known until then, UTC without a zone; default: now.",
        ),
    ] = None,
    first: Annotated[
        date | None, typer.Option(parser=moments.day, metavar="DAY", help="First day of labels, UTC.")
    ] = None,
    store: Annotated[Which, typer.Option(help="Whose feature store answers.")] = Which.SANDBOX,
    features_from: Annotated[
        FeaturesFrom,
        typer.Option("--from", help="Users' features as a point-in-time join finds them, or as they were served."),
    ] = FeaturesFrom.JOIN,
    check: Annotated[
        bool, typer.Option("--expectations/--no-expectations", help="Check the rows, and keep the result beside them.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Take an immutable training set from the lake, through Feast.

    With `--from served-log` it holds the user features that the model saw, for the lists in the served log, and reports how far they are from the join.
    """
    import stillpoint
    from stillpoint.encoder import WordLlamaEncoder
    from stillpoint.leases.active_jobs import announce_job
    from training.expected_rows import expectations
    from training.snapshot import make_snapshot

    until = cutoff or system_clock()
    begin = datetime.combine(first, time(), UTC) if first else None
    if begin is not None and begin > until:
        raise typer.BadParameter(f"--first {first} lies after the cutoff, {until:%Y-%m-%dT%H:%M:%SZ}")
    settings = Settings.load()
    lake = _lake(settings)
    with (
        announce_job(lake.objects, "stillpoint snapshot", clock=system_clock),
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        task = bar.add_task("point-in-time join", total=1.0)
        taken = make_snapshot(
            lake,
            stillpoint.feature_store(store.value, settings),
            cutoff=until,
            first=begin,
            encoder_sha256=WordLlamaEncoder().sha256,
            features_from=features_from,
            expect=expectations(lake.features, system_clock) if check else None,
            progress=lambda share: bar.update(task, completed=share),
        )
    manifest = taken.manifest
    report: dict[str, Any] = {
        "snapshot_id": manifest.id,
        "rows": manifest.rows,
        "positives": manifest.positives,
        "cutoff": manifest.cutoff.isoformat(),
        "data": manifest.data,
        "features_from": manifest.features_from.value,
        "expectations": _counted(manifest.expectations),
    }
    if as_json and manifest.differences is not None:
        report["differences"] = [one.model_dump() for one in manifest.differences]
    _report(as_json, report)
    if not as_json and manifest.differences is not None:
        Console().print(_differences(manifest.differences))


def _differences(features: "Sequence[FeatureDifference]") -> Table:
    table = Table("feature", "equal", "largest difference", "only served", "only joined", title="served against joined")
    for one in features:
        table.add_row(
            one.feature,
            f"{one.share_equal:.2%}",
            f"{one.largest_difference:.6g}",
            f"{one.only_served:,}",
            f"{one.only_joined:,}",
        )
    return table


def _counted(expectations: "Sequence[Expectation] | None") -> str:
    if expectations is None:
        return "not checked (left out, or the extra `validate` is not installed)"
    red = [f"{one.column}: expected {one.expected}" for one in expectations if not one.passed]
    held = f"{len(expectations) - len(red)} of {len(expectations)} hold"
    return f"{held}; RED: {'; '.join(red)}" if red else held


def train(
    snapshot_id: SnapshotId = None,
    mapping_version: Annotated[
        int | None, typer.Option(parser=arguments.version, metavar="VERSION", help="Default: the next free one.")
    ] = None,
    maximum_age_hours: Annotated[
        float, typer.Option(parser=arguments.hours, metavar="HOURS", help="Refuse an older snapshot.")
    ] = 24 * 365,
    track: Annotated[bool, typer.Option(help="Log the run to MLflow and register the model.")] = True,
    on: Annotated[
        TrainingPlace, typer.Option(help="Train in this process, or as a SageMaker training job.")
    ] = TrainingPlace.HERE,
    as_json: AsJson = False,
) -> None:
    """Train the collaborative filter and the ranker on a snapshot, evaluate them, and store the model in the lake."""
    from stillpoint.leases.active_jobs import announce_job
    from stillpoint.snapshots import load_snapshot, refuse_older_than
    from training.collaborative import next_mapping_version
    from training.train import keep, load_evaluation, worth
    from training.train import train as train_on

    settings = Settings.load()
    lake = _lake(settings)
    with announce_job(lake.objects, "stillpoint train", clock=system_clock):
        chosen = load_snapshot(lake, snapshot_id or _newest(lake))
        refuse_older_than(chosen.manifest, timedelta(hours=maximum_age_hours), now=system_clock())
        version = mapping_version or next_mapping_version(lake)
        if track:
            from training.tracking import refuse_silent_server

            refuse_silent_server(settings.mlflow_tracking_uri)
        job = None
        if on is TrainingPlace.SAGEMAKER:
            job = f"stillpoint-{chosen.manifest.id}-m{version}-{system_clock():%Y%m%d%H%M%S}"
            bundle = _trained_at_sagemaker(settings, lake, job, chosen.manifest, version)
        else:
            with Console(stderr=True).status("training") as status:
                trained = train_on(lake, chosen, mapping_version=version, seed=settings.seed, progress=status.update)
            keep(lake, trained, cutoff=chosen.manifest.cutoff)
            bundle = trained.bundle
    evaluation = load_evaluation(lake, bundle.sha256)
    report: dict[str, Any] = {
        "model": bundle.key,
        "sha256": bundle.sha256,
        "snapshot_id": chosen.manifest.id,
        "mapping_version": version,
        "data": chosen.manifest.data,
        "worth": worth(evaluation),
        "metrics": evaluation.metrics(),
    }
    if job is not None:
        report["training_job"] = job
    if track:
        from training.tracking import track as track_run

        report["mlflow_run"] = track_run(settings, chosen, bundle, evaluation, job=job)
    _report(as_json, report)


def _trained_at_sagemaker(
    settings: Settings, lake: "Lake", job: str, snapshot: "SnapshotManifest", mapping_version: int
) -> "ModelBundle":
    from training.sagemaker_job import collect, fetch_artifact, train_at_sagemaker

    client = _sagemaker(settings)
    with Console(stderr=True).status(f"training job {job}"):
        address = train_at_sagemaker(
            client, settings, job=job, snapshot_id=snapshot.id, mapping_version=mapping_version
        )
        return collect(lake, fetch_artifact(lake, address))


def deploy(
    model: Annotated[
        str,
        typer.Argument(
            parser=arguments.digest,
            metavar="MODEL",
            help="Digest of a model in the lake, as `stillpoint train` printed it.",
        ),
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(
            parser=arguments.endpoint,
            metavar="NAME",
            help="Its name; made, or updated with the former model draining. Default: one of its own.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a model behind a SageMaker endpoint. `stillpoint release prepare --endpoint` makes a release use it."""
    from training.sagemaker_job import deploy as run

    settings = Settings.load()
    endpoint = endpoint or f"stillpoint-{model[:12]}"
    with Console(stderr=True).status(f"endpoint {endpoint}"):
        run(_sagemaker(settings), _lake(settings), settings, endpoint=endpoint, model_sha256=model, now=system_clock())
    _report(as_json, {"endpoint": endpoint, "model": model})


def undeploy(
    endpoint: Annotated[str, typer.Argument(parser=arguments.endpoint, metavar="NAME", help="Its name.")],
    as_json: AsJson = False,
) -> None:
    """Delete a SageMaker endpoint with its configurations; the model stays in the lake."""
    from training.sagemaker_job import undeploy as run

    run(_sagemaker(Settings.load()), endpoint=endpoint)
    _report(as_json, {"deleted": endpoint})


def _sagemaker(settings: Settings) -> Any:
    import boto3

    arguments: dict[str, Any] = dict(settings.aws_client_arguments())
    arguments.pop("endpoint_url", None)
    if settings.sagemaker_endpoint_url:
        arguments["endpoint_url"] = settings.sagemaker_endpoint_url
    make: Any = boto3.client
    return make("sagemaker", **arguments)


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            parser=arguments.digest_beginning,
            metavar="MODEL",
            help="Digest (or its beginning) of a model; default: the newest.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(parser=arguments.destination, metavar="FILE", help="Also write a page that reads offline."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a model did against its baselines, overall, by context and by gender and locale."""
    from training.train import Evaluation, worth

    lake = _lake(Settings.load())
    keys = [key for key in lake.objects.list("reports/evaluation-") if model is None or f"-{model[:16]}" in key]
    if not keys:
        raise NotFound(f"no evaluation of model {model or 'any'} in {lake.root}; run `stillpoint train` first")
    found = {key: Evaluation.model_validate_json(lake.objects.get(key)) for key in keys}
    key = keys[-1] if model else max(keys, key=lambda one: _cutoff(lake, found[one].snapshot_id))
    evaluation = found[key]
    if html is not None:
        from training.evaluation_page import page

        html.write_text(page(evaluation, key.removeprefix("reports/evaluation-").removesuffix(".json")))
    if as_json:
        typer.echo(evaluation.model_dump_json(exclude={"judged_lists"}))
        return
    rankings = list(evaluation.results["all"])
    for metric in ("ndcg@3", "ndcg@10"):
        if metric in evaluation.results["all"][rankings[0]]:
            Console().print(_evaluated(evaluation, metric))
    for attribute, gap in evaluation.gaps.items():
        Console().print(f"gap by {attribute}, best served group over worst: {_shown(gap)}")
    Console().print(worth(evaluation))


def _evaluated(evaluation: "Evaluation", metric: str) -> Table:
    rankings = list(evaluation.results["all"])
    table = Table(
        title=f"{metric.upper()} with 95 % intervals, {evaluation.data} behaviour, snapshot {evaluation.snapshot_id}"
    )
    for name in ("context", "lists", *rankings, *(["share of the ceiling"] if evaluation.ceiling_known else [])):
        table.add_column(name.replace("_", " "))
    for group, results in evaluation.results.items():
        cells = [results[name][metric] for name in rankings]
        share = []
        if evaluation.ceiling_known:
            ceiling = results["true_preference"][metric].value
            share = [f"{cells[0].value / ceiling:.0%}" if cells[0].lists and ceiling else "no list"]
        table.add_row(group, str(cells[0].lists), *map(_shown, cells), *share)
    return table


def _shown(one: "Estimate") -> str:
    return f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})" if one.lists else "no list"


def _lake(settings: Settings) -> "Lake":
    from stillpoint.lake.app_lake import open_lake

    return open_lake(settings)


def _newest(lake: "Lake") -> str:
    ids = {key.split("/")[1] for key in lake.objects.list("snapshots/") if key.endswith("/manifest.json")}
    if not ids:
        raise NotFound(f"there is no snapshot in {lake.root}; run `stillpoint snapshot` first")
    return max(ids, key=lambda one: (_cutoff(lake, one), one))


def _cutoff(lake: "Lake", snapshot_id: str) -> datetime:
    return datetime.fromisoformat(str(lake.get_json(f"snapshots/{snapshot_id}/manifest.json")["cutoff"]))


def _report(as_json: bool, report: dict[str, Any]) -> None:
    if as_json:
        typer.echo(json.dumps(report))
        return
    for name, value in report.items():
        Console().print(f"{name.replace('_', ' ')}: {value}")
