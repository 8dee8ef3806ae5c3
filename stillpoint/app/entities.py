"""An entity is what features are about: any id that events carry, or several ids together."""

from dataclasses import dataclass, field

from stillpoint.app.place import Place, here


@dataclass(frozen=True, slots=True)
class Entity:
    """Something with features. `keys` are the fields of events that name it, in the order of the stored key.

    >>> Entity("user"), Entity("user_category", "user_id", "category").value
    (Entity(user: user_id), 'user_category')
    """

    name: str
    keys: tuple[str, ...]
    place: Place = field(compare=False)

    def __init__(self, name: str, *keys: str) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "keys", keys or (f"{name}_id",))
        object.__setattr__(self, "place", here())

    @property
    def value(self) -> str:
        return self.name

    @property
    def join_key(self) -> str:
        """The only key; a pair has none of its own."""
        if len(self.keys) != 1:
            raise ValueError(f"entity {self.name} has the keys {', '.join(self.keys)}; ask for `keys`")
        return self.keys[0]

    @property
    def of_user(self) -> bool:
        """Whether each of its keys belongs to one user: then one user's events suffice to compute its features."""
        return "user_id" in self.keys

    def __repr__(self) -> str:
        return f"Entity({self.name}: {', '.join(self.keys)})"


user = Entity("user")
"""Who acts in an app: the `user_id` of every event."""
