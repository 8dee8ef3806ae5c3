"""What goes wrong becomes a sentence and what to do about it, never a traceback."""

from dataclasses import dataclass

from stillpoint.cli.failures import explain
from stillpoint.errors import NotFound, StackUnavailable, StillpointError

_AWAY = "Start it again with `stillpoint up`, or correct its address in the settings; `stillpoint status` names every server."


@dataclass(frozen=True, slots=True)
class Trouble:
    """A sentence, and what to do; `away` says that a server does not answer, and `unknown` that a name names nothing."""

    sentence: str
    advice: str = ""
    away: bool = False
    unknown: bool = False

    @classmethod
    def hangs(cls, seconds: float) -> "Trouble":
        """Return what is said of a source that has not answered for a while."""
        return cls(
            f"The source has not answered for {seconds:.0f} s.",
            "It is asked on; `stillpoint status` says which server is slow or down.",
            away=True,
        )


def trouble(error: Exception) -> Trouble:
    """Return the sentence for a failure. The traceback of a defect goes to the log that the sentence names."""
    line = explain(error)[0].removeprefix("error: ").strip()
    sentence = f"{line[:1].upper()}{line[1:]}{'' if line.endswith(('.', '!', '?')) else '.'}"
    if isinstance(error, StackUnavailable):
        return Trouble(sentence, "" if "stillpoint up" in sentence else _AWAY, away=True)
    if isinstance(error, StillpointError):
        return Trouble(sentence, unknown=isinstance(error, NotFound))
    return Trouble(sentence, away="stillpoint up" in sentence)
