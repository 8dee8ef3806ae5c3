"""Keeps what a join has computed in Redis, where the stream will find it: beside users' states, and under a view's own keys."""

from collections.abc import Mapping, Sequence

import msgspec

from ingestion.joining.past import KeyState
from ingestion.keyed.exchange import key_name
from ingestion.state_store import Change, StateStore
from ingestion.view_states import ViewStates, field_name
from stillpoint.features.streamed.definition import Key
from stillpoint.features.streamed.engine import Runner
from stillpoint.features.streamed.state import Section


def pack_section(section: Section) -> bytes:
    """Return a section as the bytes that lie beside a user's state."""
    return msgspec.msgpack.encode(tuple(section))


def unpack_section(data: bytes) -> Section:
    """Return what `pack_section` packed."""
    return Section(*msgspec.msgpack.decode(data))


class RedisJoinMemory:
    """The memory of one join. A key's state is stored as that of the batch at which the join began."""

    def __init__(self, states: StateStore, join: str, *, batch: int, epoch: int, keep_us: int, until_us: int) -> None:
        """`keep_us` is for how long after an event's time it may count for a later arrival.

        Until `until_us`, by which the join has to be done, nothing is dropped: history's later days may need it.
        """
        self._states = states
        self._join = join
        self._batch = batch
        self._epoch = epoch
        self._keep = keep_us
        self._until = until_us

    def sections(self, view: Runner, users: Sequence[str]) -> dict[str, Section]:
        found = self._states.handed_over(users, field_name(view.section, self._join))
        return {user: unpack_section(data) for user, data in found.items()}

    def save_sections(self, view: Runner, sections: Mapping[str, Section]) -> None:
        packed = {
            user: (pack_section(one), max(one.until_us + self._keep, self._until)) for user, one in sections.items()
        }
        self._states.hand_over(packed, field_name(view.section, self._join), epoch=self._epoch)

    def keys(self, view: Runner, keys: Sequence[Key]) -> dict[Key, bytes]:
        names = {key_name(key): key for key in keys}
        found = self._states.load(
            list(names), self._batch + 1, instance=self._states.instance(), space=self._space(view)
        )
        return {names[name]: data for name, data in found.items() if data}

    def save_keys(self, view: Runner, states: Mapping[Key, KeyState]) -> None:
        changes = {
            key_name(key): Change(one.data, one.data, max(one.until_us, self._until)) for key, one in states.items()
        }
        self._states.save(changes, batch=self._batch, epoch=self._epoch, space=self._space(view))

    def _space(self, view: Runner) -> str:
        return ViewStates(joined={view.section: self._join}).space(view.section)
