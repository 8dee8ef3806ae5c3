"""The pages of docs/ that follow from code are as `make pages` would write them now."""

import os
import subprocess
import sys
from pathlib import Path

from release.gate import Thresholds
from stillpoint.settings import GROUPS, Settings
from validation.drift import DriftLimits

ROOT = Path(__file__).parents[3]


def test_the_pages_say_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/pages.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_is_explained_and_belongs_to_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(Settings.model_fields)
    for settings in (Settings, Thresholds, DriftLimits):
        assert [name for name, field in settings.model_fields.items() if not field.description] == []
