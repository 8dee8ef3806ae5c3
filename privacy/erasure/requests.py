"""Keeps requested erasures in the lake until they are done, so that a restart loses none.

A request is one object `erasing/<digest>.json`, which names the user as long as the erasure is pending and is deleted when its
receipt is there. Asking again meanwhile changes nothing.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from privacy.erasure.receipt import RECEIPTS, REQUESTS, Receipt
from privacy.erasure.versions import forget_versions
from stillpoint.clock import Clock
from stillpoint.errors import AlreadyExists, CorruptData, ObjectMissing
from stillpoint.lake.objects import Objects
from stillpoint.tombstones import digest


class ErasureRequest(BaseModel):
    """The user to be erased, and the reason why the last attempt failed, if there was one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: str
    asked_at: AwareDatetime
    attempts: int = 0
    problem: str | None = None


class ErasureState(BaseModel):
    """The state of a request: pending or done, with the receipt."""

    model_config = ConfigDict(frozen=True)

    status: Literal["pending", "done"]
    asked_at: AwareDatetime | None = Field(description="When a pending erasure was asked for.")
    attempts: int = Field(ge=0, description="How often a pending erasure had to give up; it is tried again.")
    problem: str | None = Field(description="Why the last attempt gave up.")
    receipt: Receipt | None


class ErasureRequests:
    """The requests of one lake. `key` is that of its tombstones."""

    def __init__(self, objects: Objects, key: bytes, clock: Clock) -> None:
        self._objects = objects
        self._key = key
        self._clock = clock

    def ask(self, user_id: str) -> ErasureState:
        """Store a request, unless one is pending already, and return its state."""
        request = ErasureRequest(user_id=user_id, asked_at=self._clock())
        try:
            self._objects.create(self._of(user_id), request.model_dump_json().encode())
        except AlreadyExists:
            return self.state(user_id) or _pending(request)  # which was done at this moment
        return _pending(request)

    def state(self, user_id: str) -> ErasureState | None:
        """Return the state of a user's request, None if there was none."""
        request = self._read(self._of(user_id))
        if request is not None:
            return _pending(request)
        receipt = self.receipt(user_id)
        if receipt is None:
            return None
        return ErasureState(status="done", asked_at=None, attempts=0, problem=None, receipt=receipt)

    def receipt(self, user_id: str) -> Receipt | None:
        """Return the newest receipt of a user's erasures."""
        kept = [key for key in self._objects.list(f"{RECEIPTS}{digest(self._key, user_id)}/") if _is_receipt(key)]
        return Receipt.model_validate_json(self._objects.get(max(kept))) if kept else None

    def pending(self) -> list[ErasureRequest]:
        """Return the pending requests, the oldest first."""
        return sorted(self._all(), key=lambda request: (request.asked_at, request.user_id))

    def gave_up(self, request: ErasureRequest, problem: str) -> None:
        """Note that an attempt failed. The request stays pending."""
        noted = request.model_copy(update={"attempts": request.attempts + 1, "problem": problem})
        self._objects.put(self._of(request.user_id), noted.model_dump_json().encode())

    def done(self, request: ErasureRequest) -> None:
        """Delete a request after its receipt was written; it was the last object that named the user."""
        self._objects.delete(self._of(request.user_id))
        forget_versions(self._objects, self._of(request.user_id))

    def is_pending(self, request: ErasureRequest) -> bool:
        """Return whether a request is still pending; another process may have done it."""
        return self._read(self._of(request.user_id)) is not None

    def _all(self) -> Iterator[ErasureRequest]:
        for key in list(self._objects.list(REQUESTS)):
            request = self._read(key)
            if request is not None:
                yield request

    def _read(self, key: str) -> ErasureRequest | None:
        try:
            return ErasureRequest.model_validate_json(self._objects.get(key))
        except ObjectMissing:
            return None
        except ValidationError as error:
            first = error.errors()[0]
            raise CorruptData(f"{self._objects.root}/{key} is no request of an erasure: {first['msg']}") from None

    def _of(self, user_id: str) -> str:
        return f"{REQUESTS}{digest(self._key, user_id)}.json"


def _is_receipt(key: str) -> bool:
    return key.rpartition("/")[2].removesuffix(".json").isdigit()


def _pending(request: ErasureRequest) -> ErasureState:
    return ErasureState(
        status="pending",
        asked_at=request.asked_at,
        attempts=request.attempts,
        problem=request.problem,
        receipt=None,
    )
