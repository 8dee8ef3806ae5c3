"""Performs pending erasures in the background, one at a time among all processes of one lake."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta

from privacy.erasure.receipt import Receipt
from privacy.erasure.requests import ErasureRequest, ErasureRequests
from stillpoint.clock import Clock
from stillpoint.errors import Fenced, LeaseHeld, StillpointError
from stillpoint.lake.objects import Objects
from stillpoint.leases.lease import Lease, renewing

log = logging.getLogger(__name__)

LEASE = "erasure-requests"
LEASE_TTL = timedelta(seconds=30)
LOOK_SECONDS = 60.0
"""How often a process looks for requests that no process works on, as after a kill."""
AGAIN_SECONDS = 15.0
"""How soon it looks again while a request is pending."""


class ErasureWorker:
    """The background thread of one process. An erasure may be repeated after a kill, so each request is retried until it is done."""

    def __init__(
        self, requests: ErasureRequests, erase: Callable[[str], Receipt], *, objects: Objects, clock: Clock
    ) -> None:
        """`erase` erases one user and returns the receipt once that is kept in the lake."""
        self._requests = requests
        self._erase = erase
        self._lease = Lease(
            objects,
            LEASE,
            holder=f"erasures, process {os.getpid()} on {socket.gethostname()}",
            ttl=LEASE_TTL,
            clock=clock,
        )
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="erasures", daemon=True)

    def start(self) -> None:
        """Start the thread. Requests left by an earlier process are included."""
        self._thread.start()

    def wake(self) -> None:
        """Look for requests now."""
        self._wake.set()

    def close(self) -> None:
        """Begin no further erasure. One under way goes on until the process ends, and is repeated by the next one."""
        self._stopped.set()
        self._wake.set()

    def work_off(self) -> int:
        """Perform pending erasures, and return how many remain: held by another process, or not possible now."""
        if not self._requests.pending():
            return 0
        try:
            self._lease.acquire()
        except LeaseHeld:
            return 1
        self._lost.clear()
        try:
            with renewing(self._lease, every=LEASE_TTL.total_seconds() / 5, lost=lambda _: self._lost.set()):
                return sum(not self._done(request) for request in self._requests.pending())
        finally:
            self._give_back()

    def _done(self, request: ErasureRequest) -> bool:
        if self._stopped.is_set() or self._lost.is_set():
            return False
        if not self._requests.is_pending(request):
            return True
        receipt = self._requests.receipt(request.user_id)
        if receipt is None or receipt.erased_until < request.asked_at:  # otherwise a kill came between receipt and note
            try:
                self._erase(request.user_id)
            except StillpointError as error:
                self._requests.gave_up(request, str(error))
                return False
            except Exception as error:
                log.exception("an erasure failed, and is tried again")
                self._requests.gave_up(request, f"{type(error).__name__}; the service's log tells more")
                return False
        self._requests.done(request)
        return True

    def _run(self) -> None:
        left = 0
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                left = self.work_off()
            except Exception as error:  # noqa: BLE001  requests stay in the lake and wait, whatever the error
                log.warning("erasures that were asked for cannot be worked off now: %s", error)
                left = 1
            self._wake.wait(AGAIN_SECONDS if left else LOOK_SECONDS)

    def _give_back(self) -> None:
        try:
            self._lease.release()
        except (StillpointError, Fenced) as error:
            log.warning("the lease of erasures ends by itself: %s", error)
