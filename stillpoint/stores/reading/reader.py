"""Reads the present features of entities.

`OnlineReader` executes a read plan: one command per entity for any number of views, all in one round trip, with the
project's fill marker. Values are returned as columns, which are decoded when they are used.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, NamedTuple, Self

from stillpoint.clock import FUTURE_TOLERANCE
from stillpoint.errors import InvalidInput
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.plan import ReadPlan, Selection, fill_marker_key
from stillpoint.stores.reading.query import Group, Query, compile_query
from stillpoint.stores.reading.replies import GroupReplies
from stillpoint.stores.reading.types import ANY_TIME_US, FillMarker, Mode
from stillpoint.stores.redis.client import AnyRedis
from stillpoint.stores.redis.command import Command
from stillpoint.stores.redis.connection import explain
from stillpoint.stores.redis.hash_read import HashRead, encoding_command
from stillpoint.stores.redis.keys import encode_key_values, join_keys
from stillpoint.stores.redis.layout import describe_key
from stillpoint.stores.redis.pipeline import send, send_async

FeatureReferences = str | Sequence[str] | Sequence[Selection]
"""A service by name, `view:feature` and `view` references, or selections from the plan."""


class _Fetch(NamedTuple):
    """What is fetched for one group: its keys, and which key each row has (None: its own)."""

    keys: list[bytes]
    rows: list[int] | None


class _Prepared(NamedTuple):
    query: Query
    commands: list[Command]
    fetches: list[_Fetch]
    undecided: list[HashRead]
    """Reads for which the encoding of one hash is asked for, after all else."""
    entities: dict[str, Sequence[Any]]
    rows: int


class _Reader:
    def __init__(
        self,
        client: AnyRedis,
        plan: ReadPlan,
        *,
        created: bool = True,
        fill_marker: bool = True,
        future_tolerance: timedelta | None = FUTURE_TOLERANCE,
    ) -> None:
        """`created` also fetches created times; `fill_marker` also fetches the project's fill marker.

        `future_tolerance` says how far ahead of a read's moment a value may have happened and be served in enforce mode;
        None: any time, for features that are known ahead.
        """
        self._client = client
        self._plan = plan
        self._project = plan.project.encode()
        self._created = created
        self._tolerance = future_tolerance
        self._tolerance_us = None if future_tolerance is None else future_tolerance // timedelta(microseconds=1)
        self._queries: dict[Any, Query] = {}
        self._fill_marker: Command | None = None
        if fill_marker:
            key = fill_marker_key(plan.project).encode()
            (self._fill_marker,) = HashRead([b"mapping_version", b"fill_complete"]).commands([key])

    @property
    def plan(self) -> ReadPlan:
        return self._plan

    def values_only(self) -> Self:
        """Return a reader of the same features that fetches neither created times nor the fill marker."""
        return type(self)(self._client, self._plan, created=False, fill_marker=False, future_tolerance=self._tolerance)

    def _query(self, features: FeatureReferences) -> Query:
        asked = features if isinstance(features, str) else tuple(features)
        query = self._queries.get(asked)
        if query is None:
            if len(self._queries) >= 1024:
                self._queries.clear()  # requests with ever new lists of features must not fill the memory
            query = compile_query(self._plan, self._selections(asked), created=self._created)
            self._queries[asked] = query
        return query

    def _selections(self, asked: Any) -> Sequence[Selection]:
        return asked if asked and isinstance(asked[0], Selection) else self._plan.select(asked)

    def _prepare(self, features: FeatureReferences, entities: Mapping[str, Sequence[Any]]) -> _Prepared:
        query = self._query(features)
        rows = _rows(query, entities)
        commands: list[Command] = []
        fetches: list[_Fetch] = []
        undecided: list[HashRead] = []
        encodings: list[Command] = []
        for group in query.groups:
            fetch = _fetch(group, entities, self._project, rows)
            fetches.append(fetch)
            commands += group.read.commands(fetch.keys)
            if group.read.undecided and fetch.keys:
                undecided.append(group.read)
                encodings.append(encoding_command(fetch.keys[0]))
        if self._fill_marker is not None:
            commands.append(self._fill_marker)
        commands += encodings
        named = {name: values for name, values in entities.items() if name in query.join_keys}
        return _Prepared(query, commands, fetches, undecided, named, rows)

    def _finish(self, prepared: _Prepared, replies: list[Any], now_us: int, mode: Mode) -> OnlineColumns:
        for read in reversed(prepared.undecided):
            read.learn(replies.pop())
        for command, reply in zip(prepared.commands, replies, strict=False):
            if isinstance(reply, Exception):
                found = explain(reply, self._client)
                raise type(found)(f"{found}; asked was for {describe_key(command.key)}")
        fill_marker = None
        if self._fill_marker is not None:
            version, complete = replies.pop()
            fill_marker = FillMarker.parse(version, complete)
        latest_us = ANY_TIME_US if self._tolerance_us is None else now_us + self._tolerance_us
        fetched = []
        position = 0
        for group, fetch in zip(prepared.query.groups, prepared.fetches, strict=True):
            part = replies[position : position + len(fetch.keys)]
            position += len(fetch.keys)
            flat = part[0] if len(part) == 1 else list(chain.from_iterable(part))
            fetched.append(GroupReplies(group, fetch.keys, fetch.rows, flat, now_us, mode, latest_us))
        return OnlineColumns(
            prepared.query, prepared.entities, prepared.rows, fetched, fill_marker=fill_marker, now_us=now_us, mode=mode
        )


class OnlineReader(_Reader):
    """Reads with a synchronous client. Safe to share between threads."""

    def read(
        self,
        features: FeatureReferences,
        entities: Mapping[str, Sequence[Any]],
        *,
        now_us: int,
        mode: Mode = Mode.ENFORCE,
    ) -> OnlineColumns:
        """Fetch features of a service (by name), or of a list of `view:feature` and `view` (or of selections from the
        plan), for lists of join key values.

        All lists have one length; row i of the answer is the entity of the i-th values. An entity that occurs in many
        rows is fetched once. `now_us` is the moment for ages. `Mode.ENFORCE` withholds what is missing, past its
        time-to-live or of the future; `Mode.COMPAT` gives Feast's very values and statuses.

        Raises:
            UnknownFeature: the plan does not have a requested service, view or feature.
            InvalidInput: a join key is missing, null, of the wrong type, or the lists differ in length.
            StackUnavailable: Redis is down or slow.
            CorruptData: (also from the columns, when they are decoded) stored bytes cannot be read.
        """
        prepared = self._prepare(features, entities)
        return self._finish(prepared, send(self._client, prepared.commands), now_us, mode)


class AsyncOnlineReader(_Reader):
    """Reads with an asyncio client, on its event loop."""

    async def read(
        self,
        features: FeatureReferences,
        entities: Mapping[str, Sequence[Any]],
        *,
        now_us: int,
        mode: Mode = Mode.ENFORCE,
    ) -> OnlineColumns:
        """Read as `OnlineReader.read`."""
        prepared = self._prepare(features, entities)
        return self._finish(prepared, await send_async(self._client, prepared.commands), now_us, mode)


def _rows(query: Query, entities: Mapping[str, Sequence[Any]]) -> int:
    missing = [name for name in query.join_keys if name not in entities]
    if missing:
        views = [view.shown_as for group in query.groups for view in group.views if group.needs(missing)]
        raise InvalidInput(
            f"view {', '.join(views)}: join key {', '.join(sorted(missing))} is missing; given were "
            f"{', '.join(entities) or 'none'}; give a list of values for each join key"
        )
    lengths = {name: len(values) for name, values in entities.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"all join keys need equally many values; found {lengths}")
    return next(iter(lengths.values()), 1)


def _fetch(group: Group, entities: Mapping[str, Sequence[Any]], project: bytes, rows: int) -> _Fetch:
    parts = [
        encode_key_values(column, [""] * rows if name is None else entities[name], group.views[0].name)
        for column, name in group.keys
    ]
    keys = join_keys(group.prefix, parts, project, rows)
    unique = dict.fromkeys(keys)
    if len(unique) == len(keys):
        return _Fetch(keys, None)
    index = {key: number for number, key in enumerate(unique)}
    return _Fetch(list(unique), [index[key] for key in keys])
