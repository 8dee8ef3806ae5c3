"""Erasure and export over HTTP, if the package `privacy` is installed.

`GET /v1/users/{user_id}/export`, and `POST` and `GET /v1/users/{user_id}/erasure`, for tokens with the scope `admin`. An
export is made while the client waits, few at a time. An erasure may take long: the request is stored in the lake and
answered with 202, and a thread of one of the processes carries it out, also after a restart.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from inference.http.pools import Pool
from inference.http.problems import Problem
from inference.http.requests import query_in, user_of
from inference.http.routes import Handler, OperationName
from stillpoint.audit.log import AuditAction, AuditLog
from stillpoint.clock import Clock
from stillpoint.lake.tables import Lake
from stillpoint.open_tables.run import publisher
from stillpoint.settings import Settings
from stillpoint.tombstones import digest, erasure_key

WAIT_SECONDS = 60.0
"""How long one attempt of an erasure waits for the stream, a fill or a compaction."""
ASK_AGAIN_SECONDS = 5
_NOT_KEPT = {"Cache-Control": "no-store"}


class Erasures(Protocol):
    """Stored erasure requests. States have the fields of `ErasureStatus` in `schemas`."""

    def ask(self, user_id: str) -> BaseModel: ...

    def state(self, user_id: str) -> BaseModel | None: ...


class ErasureThread(Protocol):
    """Carries out erasure requests in a thread of its own."""

    def start(self) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PersonalData:
    """The functions behind the endpoints. `export` takes a user id and returns a zip; all are called in threads."""

    export: Callable[[str], bytes]
    erasures: Erasures
    worker: ErasureThread
    note: Callable[[AuditAction, str, str], None] = lambda action, user_id, by: None
    """Notes in the audit log who is about to do what with a user's data."""

    def handlers(self) -> dict[OperationName, Handler]:
        """Return the handlers of the endpoints."""
        exporting = Pool("exports", threads=1, waiting=2)
        asking = Pool("requests of erasures", threads=2, waiting=16)

        async def export(request: Request) -> Response:
            user_id = _user(request)
            await asking.run(partial(self.note, AuditAction.EXPORT, user_id, request.state.caller.name))
            archive = await exporting.run(partial(self.export, user_id))
            headers = {"Content-Disposition": 'attachment; filename="export.zip"', **_NOT_KEPT}
            return Response(archive, headers=headers, media_type="application/zip")

        async def erase(request: Request) -> Response:
            user_id = _user(request)
            await asking.run(partial(self.note, AuditAction.ERASE, user_id, request.state.caller.name))
            state = await asking.run(partial(self.erasures.ask, user_id))
            self.worker.wake()
            headers = {"Location": f"/v1/users/{user_id}/erasure", "Retry-After": str(ASK_AGAIN_SECONDS), **_NOT_KEPT}
            return Response(state.model_dump_json(), 202, headers, "application/json")

        async def erasure(request: Request) -> Response:
            state = await asking.run(partial(self.erasures.state, _user(request)))
            if state is None:
                raise Problem(404, "Not found", "no erasure of this user was asked for", field="user_id")
            return Response(state.model_dump_json(), headers=_NOT_KEPT, media_type="application/json")

        return {OperationName.EXPORT: export, OperationName.ERASE: erase, OperationName.ERASURE: erasure}


def personal_data(settings: Settings, lake: Lake, clock: Clock) -> PersonalData | None:
    """Return the functions that export and erase users, or None if the package `privacy` is not installed."""
    if importlib.util.find_spec("privacy") is None:
        return None

    def export(user_id: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="stillpoint-export-") as folder:
            target = Path(folder) / "export.zip"
            import_module("privacy.export").export(settings, lake, user_id, target, now=clock())
            return target.read_bytes()

    def note(action: AuditAction, user_id: str, by: str) -> None:
        audit.append(action, by=by, user=digest(key, user_id))

    audit, key = AuditLog(lake.objects, clock), erasure_key(settings)
    erase = import_module("privacy.erasure.run").erase
    tables = publisher(settings, lake, clock)
    run = partial(erase, settings, lake, clock=clock, wait_seconds=WAIT_SECONDS, publish=tables)
    erasures = import_module("privacy.erasure.requests").ErasureRequests(lake.objects, key, clock)
    worker = import_module("privacy.erasure.worker").ErasureWorker(erasures, run, objects=lake.objects, clock=clock)
    return PersonalData(export, erasures, worker, note)


def _user(request: Request) -> str:
    query_in(request)
    return user_of(request.path_params["user_id"])
