"""The folder in which benchmarks keep their figures."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")


def keep(document: Mapping[str, Any]) -> None:
    """Write a benchmark's figures to `results/<name of its file>.json`, with its arguments, and say where."""
    path = RESULTS / f"{Path(sys.argv[0]).stem}.json"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"arguments": sys.argv[1:], **document}, indent=1) + "\n")
    print(f"figures: {path}")
