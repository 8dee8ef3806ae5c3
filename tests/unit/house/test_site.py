"""The documents make a site: every link and anchor leads somewhere, every page is in the navigation, nothing is loaded from outside."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
_LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]+src=\"([^\"]+)\"|<link[^>]+rel=\"(?:stylesheet|icon|preconnect)\"[^>]+href=\"([^\"]+)\""
)


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_outside(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    loaded = {next(filter(None, found)) for page in pages for found in _LOADED.findall(page.read_text())}
    assert len(loaded) > 3
    assert {address for address in loaded if "//" in address} == set()
