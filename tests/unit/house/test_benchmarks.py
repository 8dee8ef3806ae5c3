"""Every benchmark can be started: what it imports is there."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
IMPORT_ALL = """
import runpy, sys
sys.path.insert(0, "benchmarks")
for path in sys.argv[1:]:
    try:
        runpy.run_path(path, run_name="imported")
    except BaseException as error:
        print(f"{path}: {type(error).__name__}: {error}")
"""


def test_every_benchmark_can_be_imported() -> None:
    paths = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__main__"
    )
    assert len(paths) > 15
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr[-2000:]
