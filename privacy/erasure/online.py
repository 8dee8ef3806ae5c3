"""Removes a user from Redis."""

import re
from collections import Counter

from stillpoint.features.declarations import USER_SEQUENCE
from stillpoint.releases.colour import SANDBOX, Colour, project_name
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import connect, redis_errors
from stillpoint.stores.redis.keys import encode_key_values, join_keys
from stillpoint.stores.redis.layout import ViewLayout, key_prefix


def forget_features(settings: Settings, user_id: str) -> Counter[str]:
    """Delete the user's features from both colours and the sandbox; return how many entities there were, by project."""
    found: Counter[str] = Counter()
    layout = ViewLayout.of(USER_SEQUENCE)
    (column,) = layout.join_keys
    value = encode_key_values(column, [user_id], layout.name)
    for colour in (*Colour, SANDBOX):
        project = project_name(colour)
        client = connect(settings.connection(colour))
        with redis_errors(client):
            for key in join_keys(key_prefix([column.name]), [value], project.encode(), 1):
                found[project] += int(client.unlink(key))
    return found


def forget_serving(client: RedisClient, user_id: str) -> Counter[str]:
    """Delete stored recommendations, finished contents and push limits; return how many keys there were, by kind."""
    who = re.escape(user_id)
    return _forget(
        client,
        {
            "recommendations": re.compile(f"stillpoint:rec:{who}:[^:]+:[^:]+"),
            "finished contents": re.compile(f"stillpoint:finished:{who}"),
            "push limits": re.compile(f"stillpoint:pushed:{who}"),
        },
    )


def forget_state(client: RedisClient, user_id: str) -> Counter[str]:
    """Delete the streams' states of the user; return how many keys there were."""
    return _forget(client, {"stream state": re.compile(f"stillpoint:state:[^:]+:user:{re.escape(user_id)}")})


def _forget(client: RedisClient, kinds: dict[str, "re.Pattern[str]"]) -> Counter[str]:
    found: Counter[str] = Counter()
    with redis_errors(client):
        for key in client.scan_iter(match=b"stillpoint:*", count=1_000):
            text = key.decode(errors="replace")
            for name, pattern in kinds.items():
                if pattern.fullmatch(text):
                    found[name] += int(client.unlink(key))
    return found
