"""Apps as folders: the default app's events, with views of a test's own."""

from pathlib import Path

DEFAULT = Path(__file__).parents[2] / "feature_repo"
NO_DECLARATIONS = {"__init__", "definitions", "registered"}

SHARED_VIEWS = '''"""Views of a user, of a content, and of a user and a category."""

from stillpoint.app import Entity, StreamView, count, count_distinct, hours, last, maximum, minutes, sliding, user

from .events import ContentComplete, ContentEvent, ContentStart, Search

content = Entity("content")
taste = Entity("user_category", "user_id", "category")
surface = Entity("platform_category", "platform", "category")


class Searching(StreamView):
    """What the user searched for lately."""

    entity, ttl = user, hours(2)
    searches = count(Search, over=[minutes(10), hours(1)])


class Trending(StreamView):
    """How a content is heard."""

    entity, ttl, row_step = content, hours(6), minutes(1)
    heard = count(ContentStart, over=hours(1))
    hearers = count_distinct(ContentEvent.play_id, over=sliding(hours(2), step=hours(1)))
    furthest = maximum(ContentComplete.position_seconds, over=hours(1))


class Liking(StreamView):
    """What the user hears of a category."""

    entity, ttl = taste, hours(6)
    started = count(ContentStart, over=hours(1))
    last_content = last(ContentStart.content_id, over=hours(1))


class Surfaces(StreamView):
    """What is heard where."""

    entity, ttl, row_step = surface, hours(6), minutes(5)
    events_1h = count(ContentEvent, over=hours(1))
'''


def app_folder(where, name, **files):
    """Write an app below `where` with the default app's events and the given modules, and return its folder."""
    return _written(where, name, {"events": (DEFAULT / "events.py").read_text(), **files})


def default_app_and(where, name, **files):
    """Write the default app below `where`, with further modules, without those given as None, and return its folder."""
    own = {file.stem: file.read_text() for file in DEFAULT.glob("*.py") if file.stem not in NO_DECLARATIONS}
    return _written(where, name, {module: text for module, text in (own | files).items() if text is not None})


def _written(where, name, files):
    folder = Path(where) / name
    folder.mkdir(parents=True)
    for module, text in {"__init__": '"""An app of a test."""\n', **files}.items():
        (folder / f"{module}.py").write_text(text)
    return folder
