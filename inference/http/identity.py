"""Who a request comes from, and how often they may come.

A caller is a service, whose scopes say what it may do, or a user of the app, who reaches what is their own and nothing else.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from inference.http.problems import Problem
from inference.scopes import Scope

_REMEMBERED = 10_000
"""Callers whose rate is counted at the same time; the longest silent ones are forgotten, which only favours them."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. `user_id` is None for a service; a user reaches only what is theirs."""

    name: str
    user_id: str | None = None

    def refuse_other(self, user_id: str) -> None:
        """Refuse a user who asks for somebody else's.

        Raises:
            Problem: 403, with the same words whether the other user exists or not.
        """
        if self.user_id is not None and self.user_id != user_id:
            raise Problem(403, "Forbidden", "this token reaches only what is its own user's", field="user_id")


NOBODY = Caller("nobody (no tokens are set)")


class Bearers(Protocol):
    """Decides who sends a request, and whether they may."""

    def demand(self, authorization: str | None, scope: Scope, *, for_users: bool = False) -> Caller:
        """Return the caller; `for_users` says that a user's own token may come here too.

        Raises:
            Problem: 401 without a known token, 403 if it does not allow the scope.
        """
        ...


class RateLimit:
    """A token bucket per caller of one process: `per_second` on average, twice that at once."""

    def __init__(self, per_second: float, *, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: Caller) -> None:
        """Count one request of a caller.

        Raises:
            Problem: 429, with the seconds after which the next one is answered.
        """
        now, most = self._monotonic(), 2 * self._per_second
        left, at = self._left.pop(caller.name, (most, now))
        left = min(most, left + (now - at) * self._per_second)
        self._left[caller.name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        if left < 1:
            wait = math.ceil((1 - left) / self._per_second)
            raise Problem(429, "Too many requests", f"at most {self._per_second:g} requests a second", retry_after=wait)
