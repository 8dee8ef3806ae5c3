"""The servers of the tests: real ones, on loopback and free ports, ended with the test session.

Under pytest-xdist every worker has servers of its own. A server dies with its worker, however that ends.
"""

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client.values  # noqa: F401  (before Feast's server, which would make every later registry share files)
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from ingestion.spark import spark_session
from stillpoint.errors import StackUnavailable
from stillpoint.feast_start import defer_type_checks
from stillpoint.lake.objects import LocalObjects, S3Objects
from stillpoint.lake.tables import Lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.java import use_java
from stillpoint.local.redis_server import RedisServer, find_redis
from stillpoint.settings import Settings
from tests.support.browser import find_chromium
from tests.support.examples import EXAMPLES, draw_at_most
from tests.support.redis_cluster import Cluster
from tests.support.servers import ServerGuard, heaviest_files_first, marks_of_item, quick_ones
from tests.support.wellness import FEATURES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Compiled once and kept, the tests and ours too: a test session starts hundreds of processes that import them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# As `training/__init__.py` does, for tests that load XGBoost before it: several workers share the processors.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_DESELECTED = pytest.StashKey[dict[str, list[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write what the golden files should hold (`make golden`)"
    )
    parser.addoption("--quick", action="store_true", help="only tests that start no server (`make quick`)")
    parser.addoption(
        "--examples",
        choices=tuple(EXAMPLES),
        default="some",
        help=f"how many examples a property draws at most: {EXAMPLES}; `all`: as many as it asks for",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take the developer's own settings out of the tests, and keep libraries from calling home. Slowness is no failure."""
    defer_type_checks()
    config.pluginmanager.register(ServerGuard(), "server-guard")
    hypothesis_settings.register_profile(
        "patient",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=config.getoption("--examples") != "all",
    )
    hypothesis_settings.load_profile("patient")
    for name in [name for name in os.environ if name.startswith(("STILLPOINT_", "AWS_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "FEAST_USAGE": "False",
        "DO_NOT_TRACK": "true",
        "STILLPOINT_CONSOLE": "false",  # a stack of a test starts it only where the test looks at it
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    with contextlib.suppress(StackUnavailable):  # tests without Spark need no Java; the others say what is missing
        use_java()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a function by its name: pytest would take its address, and the workers of pytest-xdist would differ."""
    return getattr(val, "__name__", None) if callable(val) else None


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their servers and golden files; leave out what this machine cannot run (TLS, a browser), and say so."""
    for item in items:
        for mark in sorted(marks_of_item(item)):
            item.add_marker(mark)
        if "golden" in getattr(item, "fixturenames", ()) or hasattr(getattr(item, "module", None), "GOLDEN"):
            item.add_marker("golden")
    if config.getoption("--quick"):
        items[:], others = quick_ones(items)
        config.hook.pytest_deselected(items=others)
    draw_at_most(items, EXAMPLES[config.getoption("--examples")])
    items[:] = heaviest_files_first(items)
    deselected = config.stash.setdefault(_DESELECTED, {})
    for mark, missing in (("tls", _no_tls), ("browser", _no_browser)):
        needing = [item for item in items if item.get_closest_marker(mark)]
        why = missing() if needing else None
        if why is not None:
            config.hook.pytest_deselected(items=needing)
            items[:] = [item for item in items if item not in needing]
            deselected[why] = [item.nodeid for item in needing]
    if hasattr(config, "workeroutput"):  # a worker of pytest-xdist: only the controller prints
        config.workeroutput["deselected"] = deselected


def _no_tls() -> str | None:
    found = find_redis()
    return (
        None if found.has_tls else f"{found.path} was built without TLS; install redis-server 6.2+ with TLS to run them"
    )


def _no_browser() -> str | None:
    return (
        None if find_chromium() else "there is no Chromium; install it (Debian: apt-get install chromium) to run them"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist left out."""
    node.config.stash.setdefault(_DESELECTED, {}).update(getattr(node, "workeroutput", {}).get("deselected", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for why, names in config.stash.get(_DESELECTED, {}).items():
        for name in names:
            terminalreporter.write_line(f"DESELECTED {name}")
        terminalreporter.write_line(f"{len(names)} tests deselected: {why}")


RedisFactory = Callable[..., RedisServer]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the session. Tests keep apart by project names and delete only their own keys."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One Redis Cluster for the session. Tests keep apart by project names, and leave it whole (`settle`)."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def redis_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisFactory]:
    """Start Redis servers of one's own: `redis_factory({"maxmemory": "8mb"})`. Ended with the test."""
    servers: list[RedisServer] = []

    def start(options: Mapping[str, str] | None = None, *, port: int | None = None) -> RedisServer:
        servers.append(RedisServer(tmp_path_factory.mktemp("redis"), options=options, port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def redis_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for a module's tests, with nothing of other modules in it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """One AWS stand-in for the session. Tests keep apart by names of buckets, streams and queues."""
    server = AwsServer(tmp_path_factory.mktemp("aws"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def java() -> Path:
    """The home of a Java, for tests whose own programs start Spark."""
    return use_java()


@pytest.fixture(scope="session")
def spark(java: Path, tmp_path_factory: pytest.TempPathFactory) -> "SparkSession":
    """One Spark for the session, the one that `spark_session` returns whoever asks. Ended with the process."""
    home = tmp_path_factory.mktemp("spark")
    return spark_session(Settings(_env_file=None, home=home), "tests", master="local[2]")


@pytest.fixture(scope="session")
def whole_stack() -> None:
    """Stands for a stack that the test's own commands start, on ports and in a folder of its own."""


@pytest.fixture(scope="session")
def programs() -> None:
    """Stands for programs that the test itself starts and ends, such as `stillpoint serve`."""


Golden = Callable[[str, bytes], None]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare bytes that others rely on with a file of tests/golden; `--rewrite-golden` writes the file instead."""

    def compare(name: str, data: bytes) -> None:
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--rewrite-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert path.exists(), f"{path} is missing; `make golden` writes it"
        assert data == path.read_bytes(), f"{path} differs; if that is meant, `make golden` and review the diff"

    return compare


@pytest.fixture
def unique() -> str:
    """A short name that no other test uses: letters and digits, a letter first."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "lake")


@pytest.fixture
def lake(objects: LocalObjects) -> Lake:
    return Lake(objects, FEATURES)


@pytest.fixture
def s3_lake(aws: AwsServer, unique: str) -> Lake:
    """A lake in a fresh bucket."""
    client = aws.client("s3")
    client.create_bucket(Bucket=unique)
    return Lake(S3Objects(client, unique, "lake"), FEATURES)


@pytest.fixture
def settings(tmp_path: Path, aws: AwsServer, redis_server: RedisServer, s3_lake: Lake, unique: str) -> Settings:
    """Settings of the session's servers, with a fresh bucket and names of streams and queues that are not made yet.

    `stillpoint.local.provision.provision(settings)` makes them.
    """
    connection = redis_server.connection_string
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        lake=s3_lake.root,
        aws_endpoint_url=aws.endpoint_url,
        sagemaker_endpoint_url="http://127.0.0.1:1",
        redis_green=connection,
        redis_blue=connection,
        redis_sandbox=connection,
        redis_serving=connection,
        redis_state=connection,
        event_stream=f"{unique}-events",
        event_shards=2,
        prediction_queue=f"{unique}-predictions",
        prediction_dead_letters=f"{unique}-predictions-dead",
        push_queue=f"{unique}-pushes",
        served_queue=f"{unique}-served",
        mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )
