"""What are the features of these entities now?

`OnlineReader` executes a read plan: one HMGET per entity for any number of views, all in one round trip, with the
project's sentinel. Values come back as columns (`columns.py` decodes them when they are asked for).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from stillpoint.errors import InvalidInput
from stillpoint.stores.columns import Fetched, Mode, OnlineColumns, Sentinel, ViewAsked
from stillpoint.stores.connection import explain
from stillpoint.stores.connection_pipeline import Command, pack, send, send_async
from stillpoint.stores.layout import Column, key_prefix
from stillpoint.stores.layout_keys import encode_key_values, join_keys
from stillpoint.stores.plan import ReadPlan, Selection, request_keys, sentinel_key

Asked = str | Sequence[str] | Sequence[Selection]
"""A service by name, `view:feature` and `view` references, or selections from the plan."""

__all__ = ["AsyncOnlineReader", "Mode", "OnlineColumns", "OnlineReader"]


class _Reader:
    def __init__(self, client: Any, plan: ReadPlan, *, created: bool = True, sentinel: bool = True) -> None:
        """`created` also fetches when values were learned; `sentinel` also fetches the project's sentinel."""
        self._client = client
        self._plan = plan
        self._created = created
        self._queries: dict[Any, _Query] = {}
        key = sentinel_key(plan.project).encode()
        fields = (b"mapping_version", b"fill_complete")
        self._sentinel = Command(key, pack(b"HMGET", key, *fields), ("HMGET", key, *fields)) if sentinel else None

    @property
    def plan(self) -> ReadPlan:
        return self._plan

    def _query(self, features: Asked) -> "_Query":
        asked = features if isinstance(features, str) else tuple(features)
        query = self._queries.get(asked)
        if query is None:
            if len(self._queries) >= 1024:
                self._queries.clear()  # requests with ever new lists of features must not fill the memory
            query = self._queries[asked] = _compile(self._plan, self._selections(asked), self._created)
        return query

    def _selections(self, asked: Any) -> Sequence[Selection]:
        return asked if asked and isinstance(asked[0], Selection) else self._plan.select(asked)

    def _prepare(self, query: "_Query", entities: Mapping[str, Sequence[Any]]) -> "_Prepared":
        return _prepare(query, entities, self._plan.project, self._sentinel)

    def _finish(self, prepared: "_Prepared", replies: list[Any], now_us: int, mode: Mode) -> OnlineColumns:
        sentinel = None
        if self._sentinel is not None:
            version, complete = self._checked(replies.pop())
            sentinel = Sentinel.parse(version, complete)
        fetched = []
        position = 0
        for group, keys, rows in prepared.groups:
            part = replies[position : position + len(keys)]
            position += len(keys)
            for reply in part:
                if not isinstance(reply, list):
                    self._checked(reply)
            fetched.append(Fetched(group.views, keys, rows, list(chain.from_iterable(part)), group.width))
        return OnlineColumns(prepared.entities, prepared.rows, fetched, sentinel=sentinel, now_us=now_us, mode=mode)

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, Exception):
            raise explain(reply, self._client)
        return reply


class OnlineReader(_Reader):
    """Reads with a synchronous client. Safe to share between threads."""

    def read(
        self,
        features: Asked,
        entities: Mapping[str, Sequence[Any]],
        *,
        now_us: int,
        mode: Mode = Mode.ENFORCE,
    ) -> OnlineColumns:
        """Fetch features of a service (by name), or of a list of `view:feature` and `view` (or of selections from the
        plan), for lists of join key values.

        All lists have one length; row i of the answer is the entity of the i-th values. An entity that occurs in many
        rows is fetched once. `now_us` is the moment for ages. `Mode.ENFORCE` withholds what is missing or past its
        time-to-live; `Mode.COMPAT` gives Feast's very values and statuses.

        Raises:
            UnknownFeature: the plan does not have what was asked for.
            InvalidInput: a join key is missing, null, of the wrong type, or the lists differ in length.
            StackUnavailable: Redis is down or slow.
            CorruptData: (also from the columns, when they are decoded) stored bytes cannot be read.
        """
        prepared = self._prepare(self._query(features), entities)
        return self._finish(prepared, send(self._client, prepared.commands), now_us, mode)


class AsyncOnlineReader(_Reader):
    """Reads with an asyncio client, on its event loop."""

    async def read(
        self,
        features: Asked,
        entities: Mapping[str, Sequence[Any]],
        *,
        now_us: int,
        mode: Mode = Mode.ENFORCE,
    ) -> OnlineColumns:
        """Do what `OnlineReader.read` does."""
        prepared = self._prepare(self._query(features), entities)
        return self._finish(prepared, await send_async(self._client, prepared.commands), now_us, mode)


@dataclass(frozen=True, slots=True)
class _Group:
    """Views that lie in the same hashes: the same join keys, given under the same names."""

    keys: tuple[tuple[Column, str | None], ...]
    prefix: bytes
    fields: tuple[bytes, ...]
    head: bytes
    tail: bytes
    views: tuple[ViewAsked, ...]

    @property
    def width(self) -> int:
        return len(self.fields)


@dataclass(frozen=True, slots=True)
class _Query:
    groups: tuple[_Group, ...]
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Prepared:
    commands: list[Command]
    groups: list[tuple[_Group, list[bytes], list[int] | None]]
    entities: dict[str, Sequence[Any]]
    rows: int


def _compile(plan: ReadPlan, selections: Sequence[Selection], created: bool) -> _Query:
    grouped: dict[Any, list[tuple[int, Selection]]] = {}
    for order, selection in enumerate(selections):
        grouped.setdefault(request_keys(plan.view(selection.view), selection), []).append((order, selection))
    groups = []
    for keys, members in grouped.items():
        fields: list[bytes] = []
        asked = []
        for order, selection in members:
            view = plan.view(selection.view)
            field_of = {column.name: hash_field for column, hash_field in zip(view.features, view.fields, strict=True)}
            type_of = {column.name: column.type for column in view.features}
            start = len(fields)
            fields.extend(field_of[name] for name in selection.features)
            fields.append(view.event_field)
            if created:
                fields.append(view.created_field)
            asked.append(
                ViewAsked(
                    order=order,
                    name=selection.view,
                    shown_as=selection.shown_as,
                    features=tuple(Column(name, type_of[name]) for name in selection.features),
                    start=start,
                    max_age_us=view.max_age_us,
                    created=created,
                )
            )
        tail = b"".join(b"$%d\r\n%b\r\n" % (len(item), item) for item in fields)
        groups.append(
            _Group(
                keys=keys,
                prefix=key_prefix([column.name for column, _ in keys]),
                fields=tuple(fields),
                head=b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(fields)),
                tail=tail,
                views=tuple(asked),
            )
        )
    names = frozenset(name for group in groups for _, name in group.keys if name is not None)
    return _Query(tuple(groups), names)


def _prepare(query: _Query, entities: Mapping[str, Sequence[Any]], project: str, sentinel: Command | None) -> _Prepared:
    missing = sorted(name for name in query.names if name not in entities)
    if missing:
        raise InvalidInput(
            f"join key {', '.join(missing)} is missing; given were {', '.join(entities) or 'none'}; "
            "give a list of values for each join key"
        )
    lengths = {name: len(values) for name, values in entities.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"all join keys need equally many values; found {lengths}")
    rows = next(iter(lengths.values()), 1)
    suffix = project.encode()
    commands: list[Command] = []
    groups: list[tuple[_Group, list[bytes], list[int] | None]] = []
    for group in query.groups:
        parts = [
            encode_key_values(column, [""] * rows if name is None else entities[name], group.views[0].name)
            for column, name in group.keys
        ]
        keys = join_keys(group.prefix, parts, suffix, rows)
        places: list[int] | None = None
        unique = dict.fromkeys(keys)
        if len(unique) < len(keys):
            index = {key: number for number, key in enumerate(unique)}
            places = [index[key] for key in keys]
            keys = list(unique)
        head, tail, fields = group.head, group.tail, group.fields
        for key in keys:
            data = b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail)
            commands.append(Command(key, data, ("HMGET", key, *fields)))
        groups.append((group, keys, places))
    if sentinel is not None:
        commands.append(sentinel)
    named = {name: values for name, values in entities.items() if name in query.names}
    return _Prepared(commands, groups, named, rows)
