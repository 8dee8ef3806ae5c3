"""Templates for the tests, each environment synthesized once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE))

Templates = dict[str, dict[str, Any]]
_NODE = Path(sys.executable).parent


def synthesize(environment: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the app as `cdk synth` runs it."""
    return subprocess.run(
        [sys.executable, str(HERE / "app.py")],
        env={
            "PATH": f"{_NODE}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/tmp"),
            "CDK_OUTDIR": str(folder),
            "CDK_CONTEXT_JSON": json.dumps({"environment": str(environment)}),
            "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Templates]:
    """Return the templates of an environment by concern: `templates("production")["events"]`."""
    made: dict[str, Templates] = {}

    def of(name: str) -> Templates:
        if name not in made:
            folder = Path(os.environ.get("STILLPOINT_TEMPLATES") or tmp_path_factory.mktemp("templates")) / name
            done = synthesize(HERE / "environments" / f"{name}.toml", folder)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            made[name] = {
                path.name.removesuffix(".template.json").rpartition("-")[2]: json.loads(path.read_text())
                for path in folder.glob("*.template.json")
            }
        return made[name]

    return of
