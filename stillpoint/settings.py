"""The settings: where everything lives, and what may be tuned.

One frozen object, read from `STILLPOINT_*` variables and `.env` by entry points only. The defaults are the embedded
stack on loopback; the same variables point at real AWS and at any Redis.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from stillpoint.durations import Seconds, WholeSeconds
from stillpoint.errors import InvalidSettings
from stillpoint.experiments import Experiment
from stillpoint.releases.colour import Colour, project_name
from stillpoint.secret_settings import fetch_secret, secret_settings

GROUPS: dict[str, tuple[str, ...]] = {
    "Where things live": ("home", "app", "lake", "registry", "mapping_version"),
    "AWS": (
        "aws_endpoint_url",
        "aws_region",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "secret_id",
        "event_stream",
        "event_shards",
        "prediction_queue",
        "prediction_dead_letters",
        "push_queue",
        "served_queue",
        "function_seconds",
    ),
    "SageMaker and MLflow": (
        "sagemaker_endpoint_url",
        "sagemaker_role",
        "sagemaker_image",
        "model_server_command",
        "mlflow_tracking_uri",
        "mlflow_experiment",
    ),
    "Redis": ("redis_green", "redis_blue", "redis_sandbox", "redis_serving", "redis_state"),
    "The stream": (
        "stream_source",
        "stream_trigger_seconds",
        "stream_max_records_per_batch",
        "shuffle_partitions",
        "spark_driver_host",
        "spark_driver_memory",
        "max_event_age",
        "failure_hook",
    ),
    "The HTTP service": (
        "http_host",
        "http_port",
        "http_workers",
        "http_tokens",
        "http_open",
        "http_jwt_issuer",
        "http_jwt_audience",
        "http_jwt_keys",
        "http_guarded",
        "http_per_second",
        "http_certificate",
        "http_key",
        "http_at_once",
        "http_seconds",
        "http_log",
        "contents_refresh",
    ),
    "The console": ("console", "console_host", "console_port"),
    "Releases and experiments": ("rollback_keep", "check_max_age", "experiment", "seed"),
    "Jobs over the lake": ("job_memory_mb", "job_folder"),
    "Open tables": ("iceberg_catalogue", "iceberg_namespace", "iceberg_keep"),
    "Vacuum": ("vacuum_grace", "quarantine_days", "served_days", "releases_days"),
    "Privacy and tracing": ("erasure_key", "trace_share"),
}
"""The settings by what they are about, for `docs/settings.md`."""


class Settings(BaseSettings):
    """All settings. Durations are seconds, or written as `10m`, `24h`, `P30D`; addresses are `host:port` or URLs.

    A Redis connection string is written as Feast writes it: `host:port,db=0,ssl=true,username=…,password=…`, several
    `host:port` for Redis Cluster.
    """

    model_config = SettingsConfigDict(
        env_prefix="STILLPOINT_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    home: Path = Field(
        default=Path(".stillpoint"), description="Folder of the embedded stack's data, logs and generated files."
    )

    lake: str = Field(default="s3://stillpoint/lake", description="Root of the lake: s3://bucket/prefix or a folder.")
    aws_endpoint_url: str | None = Field(
        default="http://127.0.0.1:4590", description="AWS stand-in; `aws` means the real one."
    )
    aws_region: str = Field(
        default="us-east-1",
        description="Unset, with the real AWS: AWS_REGION or AWS_DEFAULT_REGION, where one of them is set.",
    )
    aws_access_key_id: SecretStr | None = Field(
        default=None, description="Unset: `test` for a stand-in, AWS's own chain for the real one."
    )
    aws_secret_access_key: SecretStr | None = Field(default=None, description="Belongs to the access key.")
    aws_session_token: SecretStr | None = Field(
        default=None,
        description="Goes with temporary keys. They are not renewed: AWS's own chain renews, fixed keys end.",
    )
    secret_id: str | None = Field(
        default=None,
        description="Secret of AWS Secrets Manager that holds further settings, one JSON object; the environment's own count first.",
    )
    sagemaker_endpoint_url: str | None = Field(
        default="http://127.0.0.1:4591", description="SageMaker stand-in; `aws` means the real one."
    )
    sagemaker_role: str = Field(
        default="arn:aws:iam::000000000000:role/stillpoint-sagemaker",
        description="Role that training jobs and endpoints run under.",
    )
    sagemaker_image: str = Field(
        default="stillpoint/model-server:latest", description="Image of training jobs and endpoints."
    )
    model_server_command: str | None = Field(
        default=None,
        description="Program behind the SageMaker stand-in's endpoints; unset: `python -m inference.model_server`.",
    )

    app: str = Field(
        default="feature_repo",
        description="The app: the package or folder of a team's events, features and definitions.",
    )
    event_stream: str = Field(default="stillpoint-events", description="Kinesis stream of the app's events.")
    event_shards: int = Field(default=4, ge=1, le=256, description="Shards of the stream that the stack makes.")
    prediction_queue: str = Field(default="stillpoint-predictions", description="SQS queue of prediction requests.")
    prediction_dead_letters: str = Field(
        default="stillpoint-predictions-dead", description="SQS queue of requests that failed for good."
    )
    push_queue: str = Field(default="stillpoint-pushes", description="SQS queue of pushes and in-app modals.")
    served_queue: str = Field(
        default="stillpoint-served", description="What functions have served, until a worker commits it to the lake."
    )
    function_seconds: WholeSeconds = Field(
        default=30,
        ge=1,
        le=900,
        description="Timeout of the Lambda function. The prediction queue's visibility timeout is six times that, as AWS advises.",
    )

    registry: str | None = Field(
        default=None, description="Root of Feast's registries: s3://… or a folder; unset means the home folder."
    )
    mapping_version: int = Field(
        default=1,
        ge=1,
        description="The id mapping that `feast apply` registers; `stillpoint feast` sets each colour's own.",
    )

    redis_green: SecretStr = Field(
        default=SecretStr("127.0.0.1:6390,db=0"), description="Features of the colour green."
    )
    redis_blue: SecretStr = Field(
        default=SecretStr("127.0.0.1:6390,db=0"), description="Features of the colour blue; it may be the same server."
    )
    redis_sandbox: SecretStr = Field(
        default=SecretStr("127.0.0.1:6390,db=0"), description="Features of the project for experiments."
    )
    redis_serving: SecretStr = Field(
        default=SecretStr("127.0.0.1:6390,db=0"), description="Stored recommendations, push limits, leases."
    )
    redis_state: SecretStr = Field(
        default=SecretStr("127.0.0.1:6390,db=0"), description="The stream's memory of recent events per user."
    )

    mlflow_tracking_uri: str = Field(default="http://127.0.0.1:5090", description="Tracking server of training runs.")
    mlflow_experiment: str = Field(default="stillpoint", description="Experiment that training runs belong to.")

    http_host: str = Field(default="127.0.0.1", description="Address that the service listens on.")
    http_port: int = Field(default=8090, ge=0, le=65535, description="Port; 0 lets the system choose one.")
    http_workers: int = Field(default=2, ge=1, le=64, description="Processes of the service.")
    http_tokens: Path | None = Field(
        default=None, description="File of hashed bearer tokens; unset is allowed on loopback with http_open."
    )
    http_open: bool = Field(default=True, description="Serve without tokens; refused unless the host is loopback.")
    http_jwt_issuer: str | None = Field(
        default=None,
        description="Issuer whose JSON Web Tokens the service takes beside those of the file; a token with the scope `user` reaches only its `sub`.",
    )
    http_jwt_audience: str | None = Field(default=None, description="Audience that such a token must name.")
    http_jwt_keys: str | None = Field(
        default=None, description="The issuer's JSON Web Key Set: an https address, or a file."
    )
    http_guarded: bool = Field(
        default=False, description="`/metrics` and `/readyz` need a token with the scope read; `/healthz` stays open."
    )
    http_per_second: float | None = Field(
        default=None, gt=0, description="Requests per second that one caller may send to one process; more get a 429."
    )
    http_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate chain, with which the service speaks HTTPS."
    )
    http_key: Path | None = Field(default=None, description="PEM file of the certificate's private key.")
    http_at_once: int = Field(
        default=64, ge=1, description="Requests that one process answers at the same time; more get a 503."
    )
    http_seconds: Seconds = Field(default=2.0, gt=0, description="Deadline of an answer.")
    http_log: bool = Field(default=True, description="Log a line per request: id, route, status, milliseconds.")
    contents_refresh: Seconds = Field(
        default=300.0, gt=0, description="How often a serving process reads the contents' features anew."
    )

    console: bool = Field(default=True, description="`stillpoint up` starts the console, where it is installed.")
    console_host: str = Field(
        default="127.0.0.1", description="Address that the console listens on; elsewhere than loopback it needs tokens."
    )
    console_port: int = Field(default=8095, ge=0, le=65535, description="Port; 0 lets the system choose one.")

    stream_trigger_seconds: Seconds = Field(
        default=0.0, ge=0, description="Micro-batch interval; 0 starts the next as soon as possible."
    )
    stream_source: Literal["stillpoint", "kinesis", "aws-kinesis"] = Field(
        default="stillpoint",
        description="Spark source: ours; `kinesis`, Databricks's; `aws-kinesis`, EMR's. What each guarantees: `ingestion/stream_source.py`.",
    )
    stream_max_records_per_batch: int = Field(default=20_000, ge=1, description="Records of one micro-batch at most.")
    shuffle_partitions: int = Field(default=2, ge=1, description="Parts of a micro-batch, each one Spark task.")
    spark_driver_host: str | None = Field(
        default=None,
        description="Address at which Spark's executors on other machines reach the driver; unset: as Spark finds it. With local[…] it is loopback.",
    )
    spark_driver_memory: str = Field(
        default="1g",
        pattern=r"^[1-9]\d*[kmgt]$",
        description="Memory of Spark's driver, where the command names the master.",
    )
    max_event_age: WholeSeconds = Field(
        default=86_400, ge=60, description="An event older than this at arrival is late."
    )
    failure_hook: str | None = Field(
        default=None, description="Command or http(s) URL told of each failure of the stream."
    )

    rollback_keep: WholeSeconds = Field(
        default=86_400, ge=0, description="A rollback target younger than this is not retired by itself."
    )
    job_memory_mb: int = Field(
        default=512,
        ge=16,
        description="About how much memory compaction, `stillpoint daily` and a backfill take for rows; what is more lies on disk.",
    )
    job_folder: Path | None = Field(
        default=None,
        description="Where they put rows meanwhile, which needs room for the largest day; unset: the system's folder for temporary files.",
    )
    iceberg_catalogue: str | None = Field(
        default=None,
        description="Catalogue of the Iceberg tables that `stillpoint lake publish` keeps: sqlite:///PATH, a PostgreSQL URL of SQLAlchemy, or glue.",
    )
    iceberg_namespace: str = Field(default="stillpoint", description="Namespace (in Glue: database) of these tables.")
    iceberg_keep: WholeSeconds = Field(
        default=43_200,
        ge=60,
        description="How long their snapshots are kept; shorter than vacuum_grace, as older ones name files that are gone.",
    )
    vacuum_grace: WholeSeconds = Field(
        default=86_400,
        ge=3_600,
        description="How long `stillpoint vacuum` keeps a file that no commit counts any more.",
    )
    quarantine_days: int = Field(default=90, ge=0, description="How long `stillpoint vacuum` keeps the quarantine.")
    served_days: int = Field(default=90, ge=0, description="How long `stillpoint vacuum` keeps the served log.")
    releases_days: int = Field(
        default=30,
        ge=0,
        description="How long `stillpoint vacuum` keeps registries, plans and models of an ended release.",
    )
    check_max_age: WholeSeconds = Field(
        default=3_600, ge=1, description="A gate report older than this does not allow a switch."
    )

    experiment: Experiment = Field(
        default_factory=Experiment,
        description='JSON: `{"salt": "7", "arms": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, "ordering": "popular"}]}`; `ordering` is model or popular.',
    )
    trace_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the events that are traced with OpenTelemetry; needs the extra `tracing`, and OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    seed: int = Field(default=7, description="What random numbers of simulations and training begin with.")
    erasure_key: SecretStr = Field(
        default=SecretStr(""),
        description="Key of the tombstones' HMAC. Required with real S3; on one machine `erasure.key` in the home is made.",
    )

    @model_validator(mode="before")
    @classmethod
    def _region_of_the_environment(cls, given: Any) -> Any:
        """Take AWS's own variables for the region, as its SDKs do; boto3 knows only the second."""
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region or not isinstance(given, Mapping) or given.get("aws_region"):
            return given
        real = "aws_endpoint_url" in given and given["aws_endpoint_url"] in (None, "aws")
        return {**given, "aws_region": region} if real else given

    @model_validator(mode="after")
    def _http_is_whole(self) -> "Settings":
        jwt = (self.http_jwt_issuer, self.http_jwt_audience, self.http_jwt_keys)
        if None in jwt and any(jwt):
            raise ValueError(
                "STILLPOINT_HTTP_JWT_ISSUER, STILLPOINT_HTTP_JWT_AUDIENCE and STILLPOINT_HTTP_JWT_KEYS belong together: a token "
                "is taken only of a known issuer, for this service, and signed by a known key"
            )
        if (self.http_certificate is None) != (self.http_key is None):
            raise ValueError("STILLPOINT_HTTP_CERTIFICATE and STILLPOINT_HTTP_KEY belong together: HTTPS needs both")
        return self

    @model_validator(mode="after")
    def _keys_are_whole(self) -> "Settings":
        key, secret = self.aws_access_key_id is not None, self.aws_secret_access_key is not None
        if key != secret or (self.aws_session_token is not None and not key):
            raise ValueError(
                "AWS keys are incomplete: STILLPOINT_AWS_ACCESS_KEY_ID and STILLPOINT_AWS_SECRET_ACCESS_KEY belong together, "
                "and STILLPOINT_AWS_SESSION_TOKEN goes with both; set what is missing, or none of them for AWS's own chain"
            )
        return self

    @model_validator(mode="after")
    def _snapshots_end_before_their_files(self) -> "Settings":
        named = self.iceberg_catalogue
        if named is not None and named != "glue" and not named.startswith(("sqlite:///", "postgresql")):
            raise ValueError(
                f"iceberg_catalogue is {named.partition('://')[0]!r}…; expected sqlite:///PATH, postgresql+…://…, or glue"
            )
        if named is not None and self.iceberg_keep >= self.vacuum_grace:
            raise ValueError(
                f"iceberg_keep is {self.iceberg_keep} s, and vacuum_grace {self.vacuum_grace} s: snapshots would outlive the "
                "files that they name; keep them for less"
            )
        return self

    @field_validator("aws_endpoint_url", "sagemaker_endpoint_url", mode="after")
    @classmethod
    def _real_aws(cls, value: str | None) -> str | None:
        return None if value in (None, "aws") else value

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _lake_has_a_form(self) -> "Settings":
        if "://" in self.lake and not self.lake.startswith("s3://"):
            raise ValueError(f"lake is {self.lake!r}; expected s3://bucket/prefix or a folder")
        return self

    @property
    def job_budget(self) -> int:
        """Return how many bytes of rows a job sorts at once; sorting makes about three copies."""
        return self.job_memory_mb * 1024 * 1024 // 4

    @classmethod
    def load(cls) -> "Settings":
        """Read the environment, `.env`, and the secret that `STILLPOINT_SECRET_ID` in the environment names.

        Raises:
            InvalidSettings: names every variable that is missing or malformed, all at once.
        """
        try:
            return cls(**_of_the_secret())
        except ValidationError as error:
            lines = []
            for problem in error.errors():
                where = ".".join(str(part) for part in problem["loc"]).upper()
                lines.append(f"STILLPOINT_{where}: {problem['msg']}" if where else problem["msg"])
            raise InvalidSettings("settings refused; " + "; ".join(lines)) from None
        except SettingsError as error:
            raise InvalidSettings(f"settings refused; {error}: it is not JSON") from None

    def connection(self, colour: "Colour | Literal['sandbox']") -> str:
        """Return the Redis connection string of a colour, or of the sandbox. It may hold a password."""
        secret: SecretStr = getattr(self, f"redis_{colour}")
        return secret.get_secret_value()

    def registry_path(self, colour: "Colour | str") -> str:
        """Return where a colour's own Feast registry lies, or the sandbox's. Inference reads frozen copies, not this."""
        root = self.registry or str(self.home)
        return f"{root.rstrip('/')}/{project_name(colour)}.pb"

    def aws_client_arguments(self) -> dict[str, str]:
        """Return the keyword arguments for a boto3 client of the stand-in or of real AWS."""
        arguments = {"region_name": self.aws_region}
        if self.aws_endpoint_url:
            arguments |= {
                "endpoint_url": self.aws_endpoint_url,
                "aws_access_key_id": "test",
                "aws_secret_access_key": "test",
            }
        if self.aws_access_key_id and self.aws_secret_access_key:
            arguments["aws_access_key_id"] = self.aws_access_key_id.get_secret_value()
            arguments["aws_secret_access_key"] = self.aws_secret_access_key.get_secret_value()
            if self.aws_session_token:
                arguments["aws_session_token"] = self.aws_session_token.get_secret_value()
        return arguments


def _of_the_secret() -> dict[str, Any]:
    """Return the settings of the secret that the environment names."""
    region = os.environ.get("STILLPOINT_AWS_REGION") or os.environ.get("AWS_REGION") or "us-east-1"
    address = os.environ.get("STILLPOINT_AWS_ENDPOINT_URL", "aws")
    return dict(
        secret_settings(
            os.environ, lambda secret: fetch_secret(secret, region, None if address in ("", "aws") else address)
        )
    )
