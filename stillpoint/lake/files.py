"""Atomic file writes: a reader always sees the old file or the new one, even after a crash."""

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: str | bytes, *, mode: int = 0o666) -> None:
    """Write a file atomically: under a temporary name, flushed to disk, then renamed.

    `mode` are its permissions from the first byte on, less the process's umask.
    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.staged")
    handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
