"""How does a model answer in SageMaker's container? `GET /ping` and `POST /invocations`.

`python -m inference.model_server` serves the bundle in STILLPOINT_MODEL_DIR or SM_MODEL_DIR (/opt/ml/model) on
STILLPOINT_MODEL_PORT or SAGEMAKER_BIND_TO_PORT (8080). Input is
JSON `{"columns": {name: [values]}, "content_ids": […], "sequence_id": n|[…]|null}` or CSV with a header of the same names.
"""

import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference.problems import Problem
from stillpoint.errors import ModelRefused, StillpointError
from stillpoint.model import ModelBundle

_MAX_BODY = 6 * 1024 * 1024


def create_app(bundle: ModelBundle) -> Starlette:
    """Return the application that serves one bundle."""

    async def ping(request: Request) -> Response:
        return Response(b"", 200)

    async def invocations(request: Request) -> Response:
        body = await request.body()
        if len(body) > _MAX_BODY:
            return Problem(413, "Content too large", f"at most {_MAX_BODY} bytes are read").response()
        try:
            columns, content_ids, sequence_id = _parse(
                bundle, body, request.headers.get("content-type", "application/json")
            )
            scores = await run_in_threadpool(bundle.score, columns, content_ids=content_ids, sequence_id=sequence_id)
        except (ModelRefused, ValueError, TypeError, KeyError) as error:
            return Problem(400, "Model input refused", str(error) or type(error).__name__).response()
        answer = {
            "scores": scores.tolist(),
            "model_sha256": bundle.sha256,
            "mapping_version": bundle.manifest.mapping_version,
        }
        return Response(orjson.dumps(answer), media_type="application/json")

    return Starlette(routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])])


def _parse(bundle: ModelBundle, body: bytes, media_type: str) -> tuple[dict[str, np.ndarray[Any, Any]], list[str], Any]:
    if media_type.startswith("text/csv"):
        rows = list(csv.DictReader(io.StringIO(body.decode())))
        document: dict[str, Any] = {
            "columns": {
                name: [row[name] or None for row in rows] for name in bundle.input_columns if rows and name in rows[0]
            },
            "content_ids": [row["content_id"] for row in rows],
            "sequence_id": [int(row["sequence_id"] or -1) for row in rows]
            if rows and "sequence_id" in rows[0]
            else None,
        }
    elif media_type.startswith("application/json"):
        document = orjson.loads(body)
    else:
        raise ValueError(f"content type {media_type!r}; expected application/json or text/csv")
    if not isinstance(document, dict) or not isinstance(document.get("columns"), dict):
        raise ValueError("expected an object with `columns`, `content_ids` and `sequence_id`")
    content_ids = document.get("content_ids")
    if not isinstance(content_ids, list) or not all(isinstance(one, str) for one in content_ids) or not content_ids:
        raise ValueError("`content_ids`: expected a list of at least one text")
    texts = bundle.manifest.categories
    columns = {
        name: np.array(values, dtype=object) if name in texts else np.array(values, dtype=np.float64)
        for name, values in document["columns"].items()
    }
    sequence_id = document.get("sequence_id")
    return columns, content_ids, np.array(sequence_id, np.int64) if isinstance(sequence_id, list) else sequence_id


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
    """Return the first of these environment variables that is set."""
    return next((os.environ[name] for name in names if os.environ.get(name)), default)


def main() -> int:
    """Serve until stopped. Return 1 with one sentence if the model cannot be loaded."""
    import uvicorn

    folder = Path(first_of("STILLPOINT_MODEL_DIR", "SM_MODEL_DIR", default="/opt/ml/model"))
    try:
        bundle = ModelBundle.load(find_bundle(folder))
    except StillpointError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    host = first_of("STILLPOINT_MODEL_HOST", default="127.0.0.1")
    port = first_of("STILLPOINT_MODEL_PORT", "SAGEMAKER_BIND_TO_PORT", default="8080")
    if not port.isdigit():
        sys.stderr.write(f"error: the port is {port!r}; expected a number\n")
        return 1
    uvicorn.run(create_app(bundle), host=host, port=int(port), log_level="warning")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
