"""The started service does what its description says, for every request that one can think of, and shows nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from inference import openapi
from inference.http.routes import OperationName
from stillpoint.lake.objects import S3Objects
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings
from tests.support.hand_made import hand_made
from tests.support.service_process import ServiceProcess, environment, token_file
from tests.support.wellness import APP, FEATURES

COMMITTED = Path(__file__).parents[2] / "openapi.json"
LEAKS = re.compile(r"Traceback|File \"|\.py\b|site-packages|/work/|/home/|redis\.|botocore|starlette|Error\(")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, aws: Any, redis_of_module: Any) -> Settings:
    home = tmp_path_factory.mktemp("service")
    bucket = f"contract-{home.name}".replace("_", "-")
    aws.client("s3").create_bucket(Bucket=bucket)
    aws.client("kinesis").create_stream(StreamName=bucket, ShardCount=1)
    connection = redis_of_module.connection_string
    return Settings(
        _env_file=None,
        home=home,
        lake=f"s3://{bucket}/lake",
        aws_endpoint_url=aws.endpoint_url,
        event_stream=bucket,
        redis_green=connection,
        redis_blue=connection,
        redis_serving=connection,
    )


@pytest.fixture(scope="module")
def service(settings: Settings, aws: Any, programs: None) -> Iterator[ServiceProcess]:
    bucket = settings.lake.split("/")[2]
    lake = Lake(S3Objects(aws.client("s3"), bucket, "lake"), FEATURES)
    hand_made(lake, settings, project="stillpoint_contract").point()
    file, tokens = token_file(settings.home, {"all": ["admin"]})
    started = ServiceProcess(
        settings.home,
        environment(settings, STILLPOINT_HTTP_TOKENS=str(file)),
        "--workers",
        "1",
        token=tokens["all"],
    )
    yield started
    assert started.stop() == 0


def test_the_committed_description_is_the_one_that_the_code_gives() -> None:
    assert COMMITTED.read_text() == openapi.text(APP.events), (
        "run `python -m inference.openapi > openapi.json` and read the diff"
    )


def test_the_service_publishes_its_description_and_a_page_that_loads_nothing(service: ServiceProcess) -> None:
    assert service.http.get("/openapi.json").json() == openapi.document(APP.events)
    page = service.http.get("/docs")
    assert all(path in page.text for path in openapi.document(APP.events)["paths"])
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def explore(service: ServiceProcess, examples: int) -> None:
    """Send generated requests, good and bad, to every operation and hold each answer to the description."""
    # Each export takes seconds, and each erasure is kept; both have tests of their own.
    document = openapi.document(APP.events, set(OperationName) - {OperationName.ERASE, OperationName.EXPORT})
    for methods in document["paths"].values():
        for operation in methods.values():
            operation.pop("security", None)  # every request here carries a token; tokens have tests of their own
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=service.url)
    strict = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    for result in schema.get_all_operations():
        operation = result.ok()
        name = OperationName(operation.definition.raw["operationId"])
        wanted = [*strict]
        if name is not OperationName.EVENTS:  # which takes a bad event and answers that it is rejected
            wanted.append(checks.negative_data_rejection)
        if name not in (OperationName.FEATURES, OperationName.EXPLAIN):  # whose names and ids must exist
            wanted.append(checks.positive_data_acceptance)
        takes_nothing = not {"parameters", "requestBody"} & set(operation.definition.raw)
        for mode in schemathesis.GenerationMode:
            if takes_nothing and mode is schemathesis.GenerationMode.NEGATIVE:
                continue
            try_requests(service, operation.as_strategy(generation_mode=mode), wanted, examples)


def try_requests(service: ServiceProcess, strategy: Any, wanted: list[Any], examples: int) -> None:
    @hypothesis_settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def run(case: Any) -> None:
        answer = case.call(headers=dict(service.http.headers))
        case.validate_response(answer, checks=wanted)
        assert case.path in ("/openapi.json", "/docs") or LEAKS.search(answer.text) is None

    run()


def test_every_operation_keeps_to_its_description(service: ServiceProcess) -> None:
    explore(service, 20)


@pytest.mark.soak
def test_every_operation_keeps_to_its_description_for_many_requests(service: ServiceProcess) -> None:
    explore(service, 150)
