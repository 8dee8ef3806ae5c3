"""Removes a user from Redis."""

import re
from collections import Counter
from collections.abc import Set

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.releases.colour import SANDBOX, Colour, project_name
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import connect, redis_errors
from stillpoint.stores.redis.keys import encode_key_values, join_keys
from stillpoint.stores.redis.layout import ViewLayout, key_prefix


def forget_features(settings: Settings, users: Set[str]) -> dict[str, Counter[str]]:
    """Delete the users' features from both colours and the sandbox; return how many entities there were, by user and project."""
    found: dict[str, Counter[str]] = {user: Counter() for user in users}
    layout = ViewLayout.of(USER_SEQUENCE)
    (column,) = layout.join_keys
    ids = sorted(users)
    values = encode_key_values(column, ids, layout.name)
    for colour in (*Colour, SANDBOX):
        project = project_name(colour)
        client = connect(settings.connection(colour))
        with redis_errors(client):
            keys = join_keys(key_prefix([column.name]), [values], project.encode(), len(ids))
            for user, key in zip(ids, keys, strict=True):
                found[user][project] += int(client.unlink(key))
    return found


def forget_serving(client: RedisClient, users: Set[str]) -> dict[str, Counter[str]]:
    """Delete stored recommendations, finished contents and push limits; return how many keys there were, by user and kind."""
    return _forget(
        client,
        users,
        {
            "recommendations": re.compile(r"stillpoint:rec:([^:]+):[^:]+:[^:]+"),
            "finished contents": re.compile(r"stillpoint:finished:([^:]+)"),
            "push limits": re.compile(r"stillpoint:pushed:([^:]+)"),
        },
    )


def forget_state(client: RedisClient, users: Set[str]) -> dict[str, Counter[str]]:
    """Delete the streams' states of users; return how many keys there were."""
    return _forget(client, users, {"stream state": re.compile(r"stillpoint:state:[^:]+:user:([^:]+)")})


def _forget(client: RedisClient, users: Set[str], kinds: dict[str, "re.Pattern[str]"]) -> dict[str, Counter[str]]:
    """Delete the keys that a pattern finds to be a user's, in one scan."""
    found: dict[str, Counter[str]] = {user: Counter() for user in users}
    with redis_errors(client):
        for key in client.scan_iter(match=b"stillpoint:*", count=1_000):
            text = key.decode(errors="replace")
            for name, pattern in kinds.items():
                whose = pattern.fullmatch(text)
                if whose is not None and whose[1] in users:
                    found[whose[1]][name] += int(client.unlink(key))
    return found
