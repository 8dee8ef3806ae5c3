"""Which views' memory the stream's states hold, and where a view that joined has left it."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace


@dataclass(frozen=True, slots=True)
class ViewStates:
    """`active` are the sections (view@digest) that all states have and every batch advances.

    `joined` says by which join a section came: what that join left beside the users' states, or under the view's own keys,
    carries its id. `stale` are fields beside users' states that a join left which was broken off.
    """

    active: frozenset[str] = frozenset()
    joined: dict[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """Return by field beside users' states the section that lies there."""
        return {field_name(section, join): section for section, join in sorted(self.joined.items())}

    def space(self, section: str) -> str:
        """Return under which name the states of a view's keys are kept that belong to no single user."""
        join = self.joined.get(section)
        return f"view:{section}" if join is None else f"view:{section}:{join}"

    def only(self, sections: Collection[str]) -> "ViewStates":
        """Return this without sections that are no longer advanced: they would fall behind."""
        left = {section: join for section, join in self.joined.items() if section not in sections}
        kept = {section: join for section, join in self.joined.items() if section in sections}
        stale = {*self.stale, *(field_name(section, join) for section, join in left.items())}
        return ViewStates(self.active & frozenset(sections), kept, tuple(sorted(stale)))

    def with_join(self, join: str, sections: Collection[str]) -> "ViewStates":
        """Return this with sections that a join has handed over."""
        came = dict.fromkeys(sections, join)
        return replace(self, active=self.active | frozenset(sections), joined=self.joined | came)

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "active": sorted(self.active)})

    @classmethod
    def from_json(cls, text: str | bytes) -> "ViewStates":
        """Read what `to_json` wrote, or a list of active sections as the first version did."""
        value = json.loads(text)
        if isinstance(value, list):
            return cls(frozenset(value))
        return cls(frozenset(value["active"]), value["joined"], tuple(value["stale"]))


def field_name(section: str, join: str) -> str:
    """Return the field beside a user's state in which a join leaves a section."""
    return f"join:{join}:{section}"
