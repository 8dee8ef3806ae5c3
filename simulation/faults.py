"""The shares of what goes wrong on an event's way (a module of its own, so that the command line starts quickly)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Shares between 0 and 1 of events and users with a fault in delivery.

    `hourly_watches`: share of users whose watch reports at full hours. `offline_sessions`: whose events arrive together, 5
    minutes to 3 hours late. `late`: of events, 11 minutes to 30 hours late. `duplicates` arrive again within a minute.
    `malformed` are broken in one of several ways. `fast_clocks`: share of users whose clock is 20 to 50 seconds ahead, one in four of them
    5 minutes ahead (quarantined).
    """

    hourly_watches: float = 0.3
    offline_sessions: float = 0.03
    late: float = 0.004
    duplicates: float = 0.01
    malformed: float = 0.003
    fast_clocks: float = 0.01


NO_FAULTS = Faults(hourly_watches=0, offline_sessions=0, late=0, duplicates=0, malformed=0, fast_clocks=0)
