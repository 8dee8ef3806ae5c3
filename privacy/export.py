"""Exports all that is known of one user as one readable archive.

A zip: `README.txt`, `online.json` (features by colour, with their times), `stored.json` (recommendations, finished contents,
push limits, the stream's states), and one JSON-lines file per dataset of the lake and per snapshot.
"""

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.erasure.beside import foreign
from privacy.erasure.online import pairs_with
from privacy.erasure.rows import about, checked, user_columns
from stillpoint.app.feature_set import FeatureSet
from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput, ObjectMissing
from stillpoint.lake.datasets import snapshot_rows
from stillpoint.lake.files import write_whole
from stillpoint.lake.tables import Lake
from stillpoint.outages import outage
from stillpoint.releases.colour import SANDBOX, Colour, project_name
from stillpoint.settings import Settings
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import connect, redis_errors
from stillpoint.stores.redis.deletion import keys_with
from stillpoint.vector_columns import unpacked

_README = """What Stillpoint knows of one user, as of {at:%Y-%m-%d %H:%M:%S} UTC.

online.json       the features that recommendations are made from, in each copy of the store
stored.json       recommendations that wait, contents finished lately, when you were last pushed to, recent events in memory
lake/             one file per kind of record: what you did, what was computed from it, what was shown to you
snapshots/        rows of training sets
unreadable.txt    only if there are any: damaged files, in which more of yours may lie
elsewhere.txt     only if there are any: files beside these that are not Stillpoint's and speak of you
Times are in UTC. A value that is not known is null.
"""


def export(settings: Settings, lake: Lake, user_id: str, target: Path, *, now: datetime) -> dict[str, int]:
    """Write the archive and return how many records each part has. The file appears whole or not at all.

    Raises:
        InvalidInput: the id is malformed, or `target` exists already.
        StackUnavailable: a store is down.
    """
    if target.exists():
        raise InvalidInput(f"{target} exists already; name another file")
    data, counts = archived(settings, lake, user_id, now=now)
    write_whole(target, data, mode=0o600)
    return counts


def archived(settings: Settings, lake: Lake, user_id: str, *, now: datetime) -> tuple[bytes, dict[str, int]]:
    """Return the archive and how many records each part of it has; all zero if nothing is known of the user.

    Raises:
        InvalidInput: the id is malformed. StackUnavailable: a store is down.
    """
    checked(user_id)
    counts: dict[str, int] = {}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", _README.format(at=now))
        for name, document in (
            ("online", _online(settings, lake.features, user_id, now)),
            ("stored", _stored(settings, user_id)),
        ):
            counts[name] = len(document)
            archive.writestr(f"{name}.json", _json(document, indent=1))
        unreadable: list[str] = []
        for name, rows in _lake_rows(lake, user_id, unreadable):
            counts[name] = counts.get(name, 0) + len(rows)
            archive.writestr(f"{name}.jsonl", "".join(_json(row) + "\n" for row in rows))
        if unreadable:
            counts["unreadable files"] = len(unreadable)
            archive.writestr("unreadable.txt", "".join(f"{line}\n" for line in unreadable))
        elsewhere = [line for line, _ in foreign(lake, {user_id})]
        if elsewhere:
            counts["foreign files"] = len(elsewhere)
            archive.writestr("elsewhere.txt", "".join(f"{line}\n" for line in elsewhere))
    return sink.getvalue(), counts


def _online(settings: Settings, features: FeatureSet, user_id: str, now: datetime) -> dict[str, Any]:
    """Return the user's features by project and view; views without a row are left out."""
    found: dict[str, Any] = {}
    for colour in (*Colour, SANDBOX):
        plan = ReadPlan.of_features(project_name(colour), features)
        views = [view.name for view in plan.views if [key.name for key in view.join_keys] == ["user_id"]]
        client = connect(settings.connection(colour))
        columns = OnlineReader(client, plan).read(
            views, {"user_id": [user_id]}, now_us=to_micros(now), mode=Mode.COMPAT
        )
        (cells,) = columns.to_dicts()
        known = {
            name: {"value": cell.value, "event_time_us": cell.event_us}
            for name, cell in cells.items()
            if cell.event_us is not None
        }
        for keys in pairs_with(features, "user_id"):
            known |= _of_pairs(client, plan, keys, user_id, now)
        if known:
            found[plan.project] = known
    return found


def _of_pairs(
    client: RedisClient, plan: ReadPlan, keys: tuple[str, ...], user_id: str, now: datetime
) -> dict[str, Any]:
    """Return the features of the user's pairs, such as a user and a category, by the values of the pair."""
    views = [view.name for view in plan.views if sorted(key.name for key in view.join_keys) == sorted(keys)]
    pairs = [values for _, values in keys_with(client, plan.project, keys, "user_id", {user_id})]
    if not pairs:
        return {}
    given = {name: [values[name] for values in pairs] for name in keys}
    rows = OnlineReader(client, plan).read(views, given, now_us=to_micros(now), mode=Mode.COMPAT).to_dicts()
    return {
        f"{name} of {', '.join(values[key] for key in keys)}": {"value": cell.value, "event_time_us": cell.event_us}
        for values, cells in zip(pairs, rows, strict=True)
        for name, cell in cells.items()
        if cell.event_us is not None
    }


def _stored(settings: Settings, user_id: str) -> dict[str, Any]:
    who = re.escape(user_id)
    wanted = re.compile(
        f"stillpoint:(rec:{who}:[^:]+:[^:]+|finished:{who}|pushed:{who}|state:[^:]+:user:{who})".encode()
    )
    found: dict[str, Any] = {}
    for address in dict.fromkeys([settings.redis_serving.get_secret_value(), settings.redis_state.get_secret_value()]):
        client = connect(address)
        with redis_errors(client):
            for key in client.scan_iter(match=b"stillpoint:*", count=1_000):
                if wanted.fullmatch(key):
                    value = _redis_value(client, key)
                    if value is not None:
                        found[key.decode()] = value
    return found


def _redis_value(client: RedisClient, key: bytes) -> Any:
    """Return what a key holds; None for one that has expired since it was found."""
    kind = client.type(key)
    if kind == b"hash":
        return {name.decode(): _text(value) for name, value in client.hgetall(key).items()}
    if kind == b"zset":
        return {_text(member): score for member, score in client.zrange(key, 0, -1, withscores=True)}
    value = client.get(key)
    return None if value is None else _text(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(data).decode()}"


def _lake_rows(lake: Lake, user_id: str, unreadable: list[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the user's committed rows by dataset, and those of snapshots. Damaged files are named."""
    for dataset in sorted({file.dataset for commit in lake.commits() for file in commit.files}):
        rows: list[dict[str, Any]] = []
        for file in lake.files(dataset):
            rows += _rows(lake, file.path, user_id, unreadable)
        if rows:
            yield f"lake/{dataset}", rows
    for key in lake.objects.list("snapshots/"):
        if key.endswith("/manifest.json"):
            folder = key.removesuffix("/manifest.json")
            revision = int(str(lake.get_json(key).get("revision", 0)))
            rows = _rows(lake, snapshot_rows(folder, revision), user_id, unreadable)
            if rows:
                yield folder, rows


def _rows(lake: Lake, path: str, user_id: str, unreadable: list[str]) -> list[dict[str, Any]]:
    try:
        table = pq.read_table(io.BytesIO(lake.objects.get(path)))
    except ObjectMissing:
        unreadable.append(f"{path}: is gone; it was replaced while this archive was made, or was removed by hand")
        return []
    except (pa.ArrowInvalid, OSError) as error:
        if outage(error) is not None:
            raise
        unreadable.append(f"{path}: {str(error).splitlines()[0][:120]}")
        return []
    if not user_columns(table.schema):
        return []
    found: list[dict[str, Any]] = unpacked(table.filter(pa.array(about(table, {user_id}).mask))).to_pylist()
    return found


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, default=_plain, indent=indent, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return _text(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in an export")
