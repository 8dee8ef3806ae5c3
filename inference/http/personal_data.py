"""Erasure and export over HTTP, where the room `privacy` is installed.

`GET /v1/users/{user_id}/export` and `POST /v1/users/{user_id}/erasure`, for tokens with the scope `admin`. One at a time in
a process: each looks through the whole lake.
"""

import asyncio
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from inference.http.problems import Problem
from inference.http.requests import query_in, user_of
from inference.http.routes import Handler, OperationName
from stillpoint.clock import Clock
from stillpoint.errors import LeaseHeld
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings

WAIT_SECONDS = 60.0
"""How long an erasure waits for the stream, a fill or a compaction before it asks to come back."""


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Both take a user id and are called in a thread."""

    export: Callable[[str], bytes]
    """Returns a zip archive."""
    erase: Callable[[str], bytes]
    """Returns the receipt as JSON. May be called again after any failure."""

    def handlers(self) -> dict[OperationName, Handler]:
        """Return the handlers of the two endpoints."""
        one_at_a_time = asyncio.Lock()

        async def export(request: Request) -> Response:
            user_id = _user(request)
            async with one_at_a_time:
                archive = await asyncio.to_thread(self.export, user_id)
            headers = {"Content-Disposition": 'attachment; filename="export.zip"', "Cache-Control": "no-store"}
            return Response(archive, headers=headers, media_type="application/zip")

        async def erase(request: Request) -> Response:
            user_id = _user(request)
            try:
                async with one_at_a_time:
                    receipt = await asyncio.to_thread(self.erase, user_id)
            except LeaseHeld:
                detail = "a release, a fill or a compaction is under way; nothing is lost: ask again when it is done"
                raise Problem(409, "Conflict", detail, retry_after=30) from None
            return Response(receipt, media_type="application/json")

        return {OperationName.EXPORT: export, OperationName.ERASE: erase}


def personal_data(settings: Settings, lake: Lake, clock: Clock) -> PersonalData | None:
    """Return what exports and erases people here, None where the room `validation` is not installed."""
    if importlib.util.find_spec("validation") is None:
        return None

    def export(user_id: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="stillpoint-export-") as folder:
            target = Path(folder) / "export.zip"
            import_module("privacy.export").export(settings, lake, user_id, target, now=clock())
            return target.read_bytes()

    def erase(user_id: str) -> bytes:
        run = import_module("privacy.erasure.run").erase
        return bytes(run(settings, lake, user_id, clock=clock, wait_seconds=WAIT_SECONDS).model_dump_json().encode())

    return PersonalData(export, erase)


def _user(request: Request) -> str:
    query_in(request)
    return user_of(request.path_params["user_id"])
