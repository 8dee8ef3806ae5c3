"""Demonstrates what a model does with the features of another release's id mapping; the live service is not touched.

`python -m inference.mixup OLD NEW` ranks with the model of release OLD and the features of release NEW, as a system
without paired releases does while it refills: once without the guard, once with it. It prints JSON and changes nothing.
"""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import pyarrow.compute as pc
import typer

from inference.live.loaded_release import LoadedRelease, load
from inference.predictions.predict import Guard, PredictionTask, predict
from stillpoint.cli import arguments
from stillpoint.cli.program import run_program
from stillpoint.clock import from_micros, system_clock, to_micros
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.settings import Settings

_USERS = 200


def mixed_pairing(old: LoadedRelease, new: LoadedRelease) -> LoadedRelease:
    """Return the forbidden pairing: the old release's models and contents with the new release's user features."""
    return LoadedRelease(
        release=old.release,
        generation=old.generation,
        plan=new.plan,
        reader=new.reader,
        scorers=old.scorers,
        contents=old.contents,
        users=new.users,
    )


def owners(lake: Lake, mapping_version: int) -> dict[int, str]:
    """Return the user id behind each sequence id of an id mapping."""
    table = lake.read(f"mappings/{mapping_version}", where=pc.field("mapping_version") == mapping_version)
    return dict(zip(table["sequence_id"].to_pylist(), table["user_id"].to_pylist(), strict=True))


def experiment(
    lake: Lake, old: LoadedRelease, new: LoadedRelease, users: Sequence[str], *, at_us: int
) -> dict[str, Any]:
    """Rank users with the mixed pairing, without and with the guard; count how many got another user's factors."""
    pair = mixed_pairing(old, new)
    whose = owners(lake, old.release.mapping_version)
    somebody_else, refused, example = 0, 0, None
    for user in users:
        found = pair.users.decode_one(pair.reader.read(pair.users.names, {"user_id": [user]}, now_us=at_us))
        owner = whose.get(found.sequence_id) if found.sequence_id is not None else None
        task = PredictionTask("experiment", user, Kind.TODAY, from_micros(at_us), None, limit=5)
        unguarded = predict(pair, task, found, (), at=task.happened, guard=Guard(on=False))
        guarded = predict(pair, task, found, (), at=task.happened, guard=Guard())
        refused += guarded.refusal is not None
        if owner is not None and owner != user:
            somebody_else += 1
            if example is None:
                example = {
                    "user": user,
                    "taken_for": owner,
                    "unguarded": [item.title for item in unguarded.items],
                    "guarded": [item.title for item in guarded.items],
                    "refusal": guarded.refusal,
                }
    return {"people": len(users), "somebody_else": somebody_else, "refused_by_guard": refused, "example": example}


def main(
    old: Annotated[str, typer.Argument(parser=arguments.release_id, metavar="OLD", help="The release of the models.")],
    new: Annotated[
        str, typer.Argument(parser=arguments.release_id, metavar="NEW", help="The release of the features.")
    ],
) -> None:
    """Run the experiment for two recorded releases and print its result as JSON: OLD's models over the features of NEW."""
    settings = Settings.load()
    lake = open_lake(settings)
    book = ObjectReleaseBook(lake.objects)
    now = system_clock()
    former, latter = (load(book, lake, settings, release_id, 0, now=now) for release_id in (old, new))
    users = [user for _, user in sorted(owners(lake, latter.release.mapping_version).items())][:_USERS]
    sys.stdout.write(json.dumps(experiment(lake, former, latter, users, at_us=to_micros(now))) + "\n")


if __name__ == "__main__":
    raise SystemExit(run_program("inference.mixup", main, sys.argv[1:]))
