"""`make bench`: every benchmark in turn, each in a process of its own. They print tables and assert nothing."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run all benchmarks, or those named. Return how many failed to run."""
    wanted = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    failed = []
    for name in wanted:
        sys.stdout.write(f"\n=== {name}\n")
        sys.stdout.flush()
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode:
            failed.append(name)
    if failed:
        sys.stderr.write(f"could not be run: {', '.join(failed)}\n")
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main())
