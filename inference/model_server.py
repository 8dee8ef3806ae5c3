"""SageMaker's model container: `GET /ping` and `POST /invocations`.

`python -m inference.model_server` serves the bundle in STILLPOINT_MODEL_DIR or SM_MODEL_DIR (/opt/ml/model) on
STILLPOINT_MODEL_PORT or SAGEMAKER_BIND_TO_PORT (8080). `inference/http/model_input.py` says what it takes.
"""

import os
import sys
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference.http.model_input import JSON, parse
from inference.http.problems import Problem
from inference.http.requests import read_body
from stillpoint.errors import ModelRefused, StillpointError
from stillpoint.local.process import refuse_address
from stillpoint.model import ModelBundle

MAX_BODY = 6 * 1024 * 1024
"""Largest request body in bytes; thousands of contents take less."""
BODY_SECONDS = 30.0


def create_app(bundle: ModelBundle) -> Starlette:
    """Return the ASGI application that serves one model bundle."""

    async def ping(request: Request) -> Response:
        return Response(b"", 200)

    async def invocations(request: Request) -> Response:
        try:
            body = await read_body(request, BODY_SECONDS, limit=MAX_BODY)
            given = parse(bundle, body, request.headers.get("content-type", JSON))
            scores = await run_in_threadpool(
                bundle.score, given.columns, content_ids=given.content_ids, sequence_id=given.sequence_id
            )
        except Problem as problem:
            return problem.response()
        except ModelRefused as error:
            return Problem(400, "Model input refused", str(error)).response()
        answer = {
            "scores": scores.tolist(),
            "model_sha256": bundle.sha256,
            "mapping_version": bundle.manifest.mapping_version,
        }
        return Response(orjson.dumps(answer), media_type="application/json")

    return Starlette(routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])])


def find_bundle(folder: Path) -> Path:
    """Return the one bundle in a model folder.

    Raises:
        ModelRefused: there is none, or more than one.
    """
    found = sorted(folder.glob("*.tar.gz"))
    if len(found) != 1:
        raise ModelRefused(f"{folder} holds {len(found)} bundles (*.tar.gz); expected exactly one")
    return found[0]


def first_of(*names: str, default: str) -> str:
    """Return the value of the first of these environment variables that is set, else `default`."""
    return next((os.environ[name] for name in names if os.environ.get(name)), default)


def main() -> int:
    """Serve until stopped. Return 2 for an invalid port, 1 if the port is taken or the model cannot be loaded.

    Each failure is one sentence on standard error.
    """
    folder = Path(first_of("STILLPOINT_MODEL_DIR", "SM_MODEL_DIR", default="/opt/ml/model"))
    host = first_of("STILLPOINT_MODEL_HOST", default="127.0.0.1")
    port = first_of("STILLPOINT_MODEL_PORT", "SAGEMAKER_BIND_TO_PORT", default="8080")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        sys.stderr.write(f"error: the port is {port!r}; expected a number from 0 to 65535\n")
        return 2
    try:
        refuse_address("the model server", host, int(port), "set STILLPOINT_MODEL_PORT")
        bundle = ModelBundle.load(find_bundle(folder))
    except StillpointError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    import uvicorn

    uvicorn.run(create_app(bundle), host=host, port=int(port), log_level="warning")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
