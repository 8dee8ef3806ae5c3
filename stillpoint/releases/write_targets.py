"""The colours that the stream writes, and the stream's acknowledgement of a change.

`stream/control.json` names the targets, with a generation. The stream acknowledges it in `stream/acknowledged.json` once
its first batch under that generation is committed (or at once while no batch runs). From then on every row of the listed
views reaches every listed colour. All earlier rows are in the lake, so a fill that starts after the acknowledgement
leaves no gap.
"""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stillpoint.errors import CorruptData, ObjectMissing
from stillpoint.lake.objects import Objects
from stillpoint.releases.colour import Colour

CONTROL_KEY = "stream/control.json"
ACKNOWLEDGED_KEY = "stream/acknowledged.json"


class Target(BaseModel):
    """A colour that the stream writes, and the streamed views that its release reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    colour: Colour
    project: str
    views: tuple[str, ...]


class Control(BaseModel):
    """The targets that the stream must write; generations only grow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int = Field(default=0, ge=0)
    targets: tuple[Target, ...] = ()


class Acknowledgement(BaseModel):
    """The generation that the stream has acknowledged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int = Field(ge=0)
    writer: str = Field(description="The writer name of the stream's commits.")
    batch: int | None = Field(description="The first batch that obeyed, None if none was needed yet.")
    at: AwareDatetime


def read_control(objects: Objects) -> Control:
    """Return the present control, or an empty one of generation 0."""
    try:
        return Control.model_validate_json(objects.get(CONTROL_KEY))
    except ObjectMissing:
        return Control()
    except ValueError as error:
        raise CorruptData(f"{CONTROL_KEY} cannot be read: {error}") from None


def write_control(objects: Objects, targets: tuple[Target, ...]) -> Control:
    """Write new targets under the next generation and return them. Callers hold the release lease."""
    control = Control(generation=read_control(objects).generation + 1, targets=targets)
    objects.put(CONTROL_KEY, control.model_dump_json(indent=1).encode())
    return control


def read_acknowledged(objects: Objects) -> Acknowledgement | None:
    """Return the stream's acknowledgement, or None if there was none yet."""
    try:
        return Acknowledgement.model_validate_json(objects.get(ACKNOWLEDGED_KEY))
    except ObjectMissing:
        return None
    except ValueError as error:
        raise CorruptData(f"{ACKNOWLEDGED_KEY} cannot be read: {error}") from None
