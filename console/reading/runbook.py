"""The runbook's pages, as they lie in the repository; an alert without a page is told by what its rule says to do."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "runbook"
RULES = ROOT / "deploy" / "prometheus" / "stillpoint.rules.yml"
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class RunbookPage:
    """One page: its text as Markdown, or else its alert's summary and action; `None` where nothing is known."""

    name: str
    markdown: str | None
    action: str | None


def runbook_page(name: str, *, folder: Path = FOLDER, rules: Path = RULES) -> RunbookPage | None:
    """Return the page of an alert, or of the documents beside the runbook that it leads to; None for a name that is none."""
    if _NAME.fullmatch(name) is None:
        return None
    places = [folder / f"{name}.md", folder / f"{_hyphened(name)}.md", folder.parent / f"{name}.md"]
    for file in places:
        if file.is_file():
            return RunbookPage(name, file.read_text(encoding="utf-8"), None)
    action = _ACTIONS.get(name) or _action(name, rules)
    return None if action is None else RunbookPage(name, None, action)


def _hyphened(name: str) -> str:
    """Return a name in lower case with hyphens.

    >>> _hyphened("FeaturesAreStale")
    'features-are-stale'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _action(name: str, rules: Path) -> str | None:
    if not rules.is_file():
        return None
    import yaml

    document = yaml.safe_load(rules.read_text(encoding="utf-8"))
    for group in document["groups"]:
        for rule in group["rules"]:
            if rule.get("alert") == name:
                return str(rule["annotations"]["action"])
    return None


_ACTIONS = {
    "ServerDown": "`stillpoint status` names the server and its log; `stillpoint up` starts what is not running.",
    "NoReleaseIsLive": "`stillpoint release history` shows what was live; `stillpoint release check` and `stillpoint "
    "release switch` make a prepared release live.",
    "ColourIsBroken": "If the live colour is broken, roll back: `stillpoint release rollback`. Then prepare a new release.",
    "NobodyServes": "Start `stillpoint serve` and `stillpoint worker`; `stillpoint release status` shows who serves what.",
    "StreamIsDown": "Start `stillpoint stream`; it goes on where its checkpoint is, and loses nothing.",
    "QueueGrows": "Is a worker running (`stillpoint release status`, served by)? Start `stillpoint worker`, or more of them.",
    "RedisEvicts": "Raise maxmemory and set maxmemory-policy to noeviction; then check the release again.",
    "RedisIsFull": "Raise maxmemory, or retire the rollback target: `stillpoint release retire`.",
    "ServiceFails": "The service's log names each failed request by its id; `stillpoint status` says which store is away.",
    "SourceAway": "`stillpoint status` says which server is down; `stillpoint up` starts it again.",
}
"""What to do about red lines of the console that no alert watches."""
