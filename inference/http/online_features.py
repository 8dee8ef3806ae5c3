"""Answers Feast's own `/get-online-features`.

Clients ask for the same features again and again, so parsed requests and prepared Redis commands are cached per release.
Created times and the project's fill marker are not part of Feast's answer and are not fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inference.http.problems import invalid
from inference.http.requests import MAX_ENTITIES
from inference.live.loaded_release import LoadedRelease
from stillpoint.features.on_demand import on_demand_functions
from stillpoint.stores.feature_server.request import RequestParser
from stillpoint.stores.feature_server.response import to_response
from stillpoint.stores.reading.reader import AsyncOnlineReader
from stillpoint.stores.reading.types import Mode

_RELEASES = 2
"""Number of releases with a cache: after a switch, a request in flight may still use the previous one."""


@dataclass(frozen=True, slots=True)
class _Served:
    parser: RequestParser
    reader: AsyncOnlineReader


class OnlineFeatures:
    """Answers requests on one event loop. `reader` returns the reader of a release."""

    def __init__(self, reader: Callable[[LoadedRelease], AsyncOnlineReader]) -> None:
        self._reader = reader
        self._served: dict[tuple[str, int], _Served] = {}

    async def answer(self, loaded: LoadedRelease, body: Any, *, now_us: int, mode: Mode) -> dict[str, Any]:
        """Return Feast's response JSON.

        Raises:
            Problem: more entities than one request may have.
            InvalidInput, UnknownFeature, PlanRefused: the request is malformed, or names an unknown feature.
            StackUnavailable, CorruptData: as `AsyncOnlineReader.read`.
        """
        served = self._of(loaded)
        request = served.parser.parse(body)
        if any(len(values) > MAX_ENTITIES for values in request.entities.values()):
            raise invalid("entities", f"at most {MAX_ENTITIES} entities can be asked for at once")
        columns = await served.reader.read(request.requested.read, request.entities, now_us=now_us, mode=mode)
        return to_response(request, columns)

    def _of(self, loaded: LoadedRelease) -> _Served:
        key = (loaded.id, loaded.generation)
        served = self._served.get(key)
        if served is None:
            self._served = dict(list(self._served.items())[1 - _RELEASES :])
            served = _Served(
                RequestParser(loaded.plan, on_demand_functions(loaded.contents.features)),
                self._reader(loaded).values_only(),
            )
            self._served[key] = served
        return served
