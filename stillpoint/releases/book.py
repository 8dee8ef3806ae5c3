"""The release book: records, states and the pointer to the live release.

A release pairs a feature colour (frozen registry, project, read plan) with its models and their id mapping. The record
is immutable; its states are stored beside it; a pointer of create-only generations tells which release is live.
`ReleaseBook` is the store of all three. The package `release/` writes it; serving processes only read it.
"""

import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from pydantic import BaseModel

from stillpoint.errors import AlreadyExists, CorruptData, ObjectMissing, ReleaseRefused
from stillpoint.lake.objects import Objects
from stillpoint.releases.records import (
    ALLOWED,
    Announcement,
    History,
    Intent,
    Move,
    Pointer,
    Record,
    Release,
    State,
    Transition,
)

Noted = TypeVar("Noted", "Intent", "Transition")


class ReleaseBook(Protocol):
    """The store of records, states and the pointer."""

    def record(self, release: Release) -> None:
        """Write a record once.

        Raises:
            AlreadyExists: the id is taken by a different record.
        """
        ...

    def get(self, release_id: str) -> Release: ...
    def releases(self) -> Sequence[str]: ...
    def intend(self, intent: Intent) -> None: ...
    def intents(self) -> Sequence[Intent]: ...
    def histories(self) -> Sequence[History]: ...
    def transitions(self, release_id: str) -> Sequence[Transition]: ...
    def state(self, release_id: str) -> State | None: ...
    def enter(
        self, release_id: str, state: State, *, at: datetime, by: str, why: str, report: str | None = None
    ) -> Transition: ...
    def live(self) -> Pointer | None: ...
    def pointers(self) -> Sequence[Pointer]: ...
    def point(
        self, release_id: str, *, after: Pointer | None, at: datetime, by: str, why: str, move: Move = Move.SWITCH
    ) -> Pointer: ...
    def announce(self, announcement: Announcement) -> None: ...
    def announced(self) -> Announcement | None: ...
    def withdraw(self) -> None: ...


class ObjectReleaseBook:
    """A release book in a folder or in S3, by whole objects and create-only keys.

    Intents and transitions are kept in memory once read, since they never change; what decides (the pointer, the records)
    is read each time.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: dict[str, Intent | Transition] = {}

    @property
    def objects(self) -> Objects:
        return self._objects

    def record(self, release: Release) -> None:
        key = f"releases/{release.id}/release.json"
        data = _canonical(release)
        try:
            self._objects.create(key, data)
        except AlreadyExists:
            if self._objects.get(key) != data:
                raise AlreadyExists(
                    f"release {release.id} is recorded already, and differs; a record is never changed"
                ) from None

    def get(self, release_id: str) -> Release:
        key = f"releases/{release_id}/release.json"
        try:
            return _parse(Release, key, self._objects.get(key))
        except ObjectMissing:
            known = ", ".join(self.releases()) or "none"
            raise ReleaseRefused(f"there is no release {release_id!r}; recorded are: {known}") from None

    def releases(self) -> list[str]:
        found = {key.split("/")[1] for key in self._objects.list("releases/r") if key.endswith("/release.json")}
        return sorted(found, key=lambda name: int(name[1:]))

    def intend(self, intent: Intent) -> None:
        """Claim an id.

        Raises:
            AlreadyExists: the id is taken by another intent.
        """
        key = f"releases/{intent.id}/intent.json"
        data = _canonical(intent)
        try:
            self._objects.create(key, data)
        except AlreadyExists:
            if self._objects.get(key) != data:
                raise

    def intents(self) -> list[Intent]:
        """Return the intent of every release, oldest first, whether or not the release was ever recorded."""
        return [history.intent for history in self.histories()]

    def histories(self) -> list[History]:
        """Return every release's intent and transitions, the oldest release first, by one listing."""
        intents: list[Intent] = []
        steps: defaultdict[str, list[Transition]] = defaultdict(list)
        for key in self._objects.list("releases/r"):
            _, release_id, *rest = key.split("/")
            if rest == ["intent.json"]:
                intents.append(self._unchanging(Intent, key))
            elif rest[0] == "states":
                steps[release_id].append(self._unchanging(Transition, key))
        intents.sort(key=lambda intent: int(intent.id[1:]))
        return [History(intent, tuple(steps[intent.id])) for intent in intents]

    def transitions(self, release_id: str) -> list[Transition]:
        return [self._unchanging(Transition, key) for key in self._objects.list(f"releases/{release_id}/states/")]

    def state(self, release_id: str) -> State | None:
        """Return the state that was entered last, None before the first."""
        steps = self.transitions(release_id)
        return steps[-1].state if steps else None

    def _unchanging(self, kind: type[Noted], key: str) -> Noted:
        known = self._known.get(key)
        if not isinstance(known, kind):
            known = self._known[key] = _parse(kind, key, self._objects.get(key))
        return known

    def enter(
        self, release_id: str, state: State, *, at: datetime, by: str, why: str, report: str | None = None
    ) -> Transition:
        """Add the next transition. Of two simultaneous calls one wins, and the other raises.

        Raises:
            ReleaseRefused: the state may not follow the present one, or another process changed the state first.
        """
        steps = self.transitions(release_id)
        present = steps[-1].state if steps else None
        if state not in ALLOWED[present]:
            following = ", ".join(sorted(ALLOWED[present])) or "nothing"
            raise ReleaseRefused(
                f"release {release_id} is {present or 'new'} and cannot become {state}; it can become {following}"
            )
        step = Transition(number=len(steps) + 1, state=state, at=at, by=by, why=why, report=report)
        key = f"releases/{release_id}/states/{step.number:06d}.json"
        data = _canonical(step)
        try:
            self._objects.create(key, data)
        except AlreadyExists:
            if self._objects.get(key) != data:
                raise ReleaseRefused(
                    f"release {release_id} changed state at the same moment; look at `stillpoint release status` and "
                    "try again"
                ) from None
        return step

    def live(self) -> Pointer | None:
        """Return the pointer's highest generation.

        Raises:
            CorruptData: the highest generation cannot be read; nothing older is believed instead.
        """
        newest = None
        for newest in self._objects.list("releases/pointer/"):  # noqa: B007
            pass
        return None if newest is None else self._pointer(newest)

    def pointers(self) -> list[Pointer]:
        """Return every generation, the first one first."""
        return [self._pointer(key) for key in self._objects.list("releases/pointer/")]

    def point(
        self, release_id: str, *, after: Pointer | None, at: datetime, by: str, why: str, move: Move = Move.SWITCH
    ) -> Pointer:
        """Create the generation after `after`, and return it.

        Raises:
            ReleaseRefused: another generation was created first; the text names it.
        """
        pointer = Pointer(
            generation=1 if after is None else after.generation + 1,
            release=release_id,
            previous=None if after is None else after.release,
            move=move,
            nonce=uuid.uuid4().hex,
            at=at,
            by=by,
            why=why,
        )
        key = pointer_key(pointer.generation)
        try:
            self._objects.create(key, _canonical(pointer))
        except AlreadyExists:
            winner = self._pointer(key)
            # The answer to a put may be lost and the put retried: then the key is taken, by ourselves.
            if winner.nonce != pointer.nonce:
                raise ReleaseRefused(
                    f"generation {winner.generation} was created first by {winner.by} and points at {winner.release}; "
                    "nothing was changed by this call"
                ) from None
        return pointer

    def _pointer(self, key: str) -> Pointer:
        pointer = _parse(Pointer, key, self._objects.get(key))
        if key != pointer_key(pointer.generation):
            raise CorruptData(
                f"{key} says that it is generation {pointer.generation}; the pointer is damaged and nothing older is "
                "believed instead: restore the object from its version history"
            )
        return pointer

    def announce(self, announcement: Announcement) -> None:
        self._objects.put("releases/next.json", _canonical(announcement))

    def announced(self) -> Announcement | None:
        try:
            return _parse(Announcement, "releases/next.json", self._objects.get("releases/next.json"))
        except ObjectMissing:
            return None

    def withdraw(self) -> None:
        """Delete the announcement; workers drop the release that they loaded for it."""
        self._objects.delete("releases/next.json")


def pointer_key(generation: int) -> str:
    """Return the key of a generation; keys sort as generations do."""
    return f"releases/pointer/{generation:012d}.json"


def _canonical(record: BaseModel) -> bytes:
    return (json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()


def _parse(kind: type[Record], key: str, data: bytes) -> Record:
    try:
        return kind.model_validate_json(data)
    except ValueError as error:
        problem = " ".join(str(error).split())
        raise CorruptData(
            f"{key} is not a valid {kind.__name__.lower()}: {problem}; restore the object from its version history"
        ) from None
