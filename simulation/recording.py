"""Writes live events to a file: one payload a line, in order of arrival, malformed ones included."""

import os
from collections.abc import Iterable
from pathlib import Path

from simulation.delivery import Delivery


def write_recording(path: Path, deliveries: Iterable[Delivery]) -> int:
    """Write the payloads whole or not at all, and return how many there are. `stillpoint events publish` reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.staged")
    count = 0
    with staged.open("wb") as file:
        for delivery in deliveries:
            file.write(delivery.payload + b"\n")
            count += 1
    os.replace(staged, path)
    return count
