"""Removes a user from Redis."""

import re
from collections import Counter
from collections.abc import Set

from stillpoint.app.feature_set import USER_SEQUENCE, FeatureSet
from stillpoint.releases.colour import SANDBOX, Colour, project_name
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import connect, redis_errors
from stillpoint.stores.redis.deletion import keys_with
from stillpoint.stores.redis.keys import encode_key_values, join_keys
from stillpoint.stores.redis.layout import ViewLayout, key_prefix


def forget_features(settings: Settings, features: FeatureSet, users: Set[str]) -> dict[str, Counter[str]]:
    """Delete the users' features, and those of pairs with a user, from both colours and the sandbox.

    Return how many entities there were, by user and project.
    """
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
            for pair in pairs_with(features, column.name):
                for key, values_of in keys_with(client, project, pair, column.name, users):
                    found[values_of[column.name]][project] += int(client.unlink(key))
    return found


def pairs_with(features: FeatureSet, name: str) -> list[tuple[str, ...]]:
    """Return the join keys of entities that are known by `name` together with others."""
    keys = dict.fromkeys(view.entity.keys for view in features.views)
    return [one for one in keys if name in one and len(one) > 1]


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
