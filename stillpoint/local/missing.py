"""What this machine lacks and a wheel can give.

`python -m stillpoint.local.missing` prints the lock files that `make setup` adds for it, one a line: Redis and Java.
It runs before anything is installed, so it imports the standard library only.
"""

import shutil

from stillpoint.local.java import system_java


def missing() -> list[str]:
    """Return the names of the lock files of what is missing."""
    found = []
    if shutil.which("redis-server") is None:
        found.append("requirements-redis.lock")
    if system_java() is None:
        found.append("requirements-java.lock")
    return found


if __name__ == "__main__":
    for name in missing():
        print(name)
