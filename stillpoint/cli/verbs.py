"""The table of verbs, and where the code of each lives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """One word after `stillpoint`: where it is defined, as `module:name`, and its line in the help."""

    name: str
    target: str
    help: str
    panel: str
    spark: bool = False
    """It starts Spark, which needs Java."""
    passes_on: bool = False
    """Everything after its own options goes to another program, unread."""

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def attribute(self) -> str:
        return self.target.partition(":")[2]


_STACK, _EVENTS, _MODEL, _SERVE, _CARE = (
    "On this machine",
    "Events and features",
    "Models and releases",
    "Answering",
    "Looking after data",
)

VERBS = (
    Verb(
        "up", "stillpoint.cli.stack:up", "Start the embedded stack: Redis, AWS and SageMaker stand-ins, MLflow.", _STACK
    ),
    Verb("down", "stillpoint.cli.stack:down", "Stop the embedded stack; its data stay.", _STACK),
    Verb("status", "stillpoint.cli.stack:status", "Each server with its address, version and health.", _STACK),
    Verb("demo", "simulation.demo.cli:demo", "The whole path, told as a story.", _STACK, spark=True),
    Verb("console", "console.cli:console", "A web application to look at all of it.", _STACK),
    Verb("feast", "stillpoint.cli.feast:feast", "Feast with the right colour.", _EVENTS, passes_on=True),
    Verb("events", "ingestion.cli:events", "Simulate, publish and watch app events.", _EVENTS),
    Verb(
        "stream", "ingestion.cli:stream", "Run the receiver: Kinesis to features, lake and queue.", _EVENTS, spark=True
    ),
    Verb("plan", "ingestion.plan.cli:plan", "What an edited app changes, whom it touches, what it costs.", _EVENTS),
    Verb("backfill", "ingestion.cli:backfill", "Compute features of history by the stream's definition.", _EVENTS),
    Verb("daily", "ingestion.cli:daily", "Compute and materialize the daily views.", _EVENTS),
    Verb("snapshot", "training.cli:snapshot", "Make a point-in-time training set.", _MODEL),
    Verb("train", "training.cli:train", "Train a model on a snapshot.", _MODEL),
    Verb("deploy", "training.cli:deploy", "Put a model behind a SageMaker endpoint.", _MODEL),
    Verb("undeploy", "training.cli:undeploy", "Delete a SageMaker endpoint.", _MODEL),
    Verb("evaluate", "training.cli:evaluate", "Compare a model with its baselines.", _MODEL),
    Verb("release", "release.cli:release", "Prepare, check, switch, roll back and retire releases.", _MODEL),
    Verb("retrain", "release.cli:retrain", "Snapshot, train, prepare, check and switch.", _MODEL),
    Verb("worker", "inference.cli:worker", "Answer prediction requests from the queue.", _SERVE),
    Verb("serve", "inference.cli:serve", "Run the HTTP service.", _SERVE),
    Verb("model-server", "inference.cli:model_server", "Run SageMaker's model container.", _SERVE),
    Verb("features", "inference.features_cli:features", "The catalogue of features, and a user's values.", _SERVE),
    Verb("explain", "inference.cli:explain", "What a recommendation was made from, and why.", _SERVE),
    Verb("repair", "validation.repair_cli:repair", "Take out of the stores what should not lie there.", _CARE),
    Verb("content", "stillpoint.cli.content:content", "Withdraw a content, restore it, or look it up.", _CARE),
    Verb("erase", "privacy.cli:erase", "Erase users everywhere, with a receipt for each.", _CARE),
    Verb("export", "privacy.cli:export", "Write everything that is known of one user into one archive.", _CARE),
    Verb("audit", "stillpoint.cli.audit:audit", "Who did what to releases and users' data, in a checked chain.", _CARE),
    Verb("lake", "stillpoint.cli.lake:lake", "Publish the lake as open tables.", _CARE),
    Verb("vacuum", "ingestion.cli:vacuum", "Delete what the lake no longer needs, by age and need.", _CARE),
    Verb("validate", "validation.cli:validate", "Check events, the lake's features and snapshots.", _CARE),
)
