"""Runs what a document tells a reader to type, in the document's order, on a folder and a Redis of the test's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(document):
    """Return the (language, text) of each block of commands or Python of a document."""
    return re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)


def as_shell(language, text):
    """Return a block as shell."""
    return f"python - <<'END_OF_PYTHON'\n{text}END_OF_PYTHON\n" if language == "python" else text


def shell(folder, redis, *, where=ROOT, **variables):
    """Return a function that runs a script and gives what it printed; it fails with all that was said."""
    names = ("GREEN", "BLUE", "SANDBOX", "SERVING", "STATE")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{where}{os.pathsep}{ROOT}",
        "STILLPOINT_HOME": str(folder),
        "STILLPOINT_LAKE": str(folder / "lake"),
        "STILLPOINT_REGISTRY": str(folder / "registry"),
        **{f"STILLPOINT_REDIS_{name}": redis.connection_string for name in names},
        **variables,
    }

    def run(script):
        done = subprocess.run(["bash", "-e", "-c", script], cwd=where, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
