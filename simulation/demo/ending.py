"""The demo ends with commands to try next; each stands on a line of its own, unwrapped, so that it can be copied."""

from collections.abc import Mapping, Sequence

from rich.console import Console

TITLE = "What to try next"


def next_steps(curl: str, user: str, *, running: Mapping[str, int] | None, console: str | None) -> list[str]:
    """Return the last lines. `running` is what `--keep` has left running, by name; None if everything is stopped.

    `console` is the console's address, None where the stack has none.
    """
    steps: Sequence[tuple[str, str]] = (
        (f"stillpoint features {user}", "what is known of this user now, and how old it is"),
        ("stillpoint release status", "both colours side by side"),
        ("stillpoint feast --colour live feature-views list", "the live release as Feast sees it"),
    )
    if running is None:
        lines = ["`stillpoint demo --keep` leaves everything running. Then try:"]
    else:
        told = ", ".join(f"{name} {process}" for name, process in running.items())
        lines = [f"Running now: {told}, and the embedded stack; `stillpoint down` stops them all."]
    width = max(len(command) for command, _ in steps)
    if console is not None:
        lines += [
            "",
            "# the console: what is live and red, every release, feature and user, and a search to try",
            console,
        ]
    lines += ["", "# a recommendation, made by the model of the live release", curl]
    return lines + [f"{command:{width}}  # {about}" for command, about in steps]


def tell(console: Console, lines: Sequence[str]) -> None:
    """Print the lines as they are: a frame or a wrapped line would break a command that somebody copies."""
    console.print()
    console.rule(TITLE)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
