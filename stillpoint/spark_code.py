"""Ships code to Spark's executors on other machines: our packages as a zip on their path, an app as a folder beside them.

Executors need the locked third-party packages of their own (`requirements.lock`), as Spark needs Python there. Nothing is
shipped where executors are threads of this machine (`local[…]`).
"""

import importlib
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stillpoint.errors import StackUnavailable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

APP_FOLDER = "stillpoint-app"
"""Where the app's folder lies in the working folder of each executor."""

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_shipped: set[tuple[str, str]] = set()


def clustered(master: str) -> bool:
    """Return whether a master has executors in processes of their own.

    >>> [clustered(master) for master in ("local[2]", "local", "local-cluster[2,1,1024]", "spark://host:7077", "yarn")]
    [False, False, True, True, True]
    """
    return not (master == "local" or master.startswith("local["))


def ship_packages(session: "SparkSession", packages: Sequence[str]) -> None:
    """Give packages to the executors, once per Spark application."""
    context = session.sparkContext
    for name in packages:
        if clustered(context.master) and _first(context.applicationId, name):
            folder = Path(str(importlib.import_module(name).__file__)).parent
            context.addPyFile(str(zipped(folder, Path(tempfile.mkdtemp(prefix="stillpoint-code-")) / f"{name}.zip")))


def ship_app(session: "SparkSession", where: str, folder: Path) -> str:
    """Give an app's folder to the executors, and return where they find it. `where` is what names it here."""
    context = session.sparkContext
    if not clustered(context.master):
        return where
    if _first(context.applicationId, str(folder)):
        archive = zipped(folder, Path(tempfile.mkdtemp(prefix="stillpoint-code-")) / f"{APP_FOLDER}.zip")
        context.addArchive(f"{archive}#{APP_FOLDER}")
    return f"{APP_FOLDER}/{folder.name}"


def refuse_executors_without_app(session: "SparkSession", where: str) -> None:
    """Let executors load the app before work begins.

    Raises:
        StackUnavailable: one cannot; names the machine and what is missing there.
    """
    context = session.sparkContext

    def look(_: int) -> str:  # sent by value, as an executor may have none of our modules
        import socket

        try:
            from importlib import import_module

            import_module("stillpoint.app.load").load_app(where)
        except Exception as error:  # noqa: BLE001  whatever is wrong there is told here
            return f"{socket.gethostname()}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return ""

    parts = max(2, context.defaultParallelism)
    found = sorted(set(context.parallelize(range(parts), parts).map(look).collect()) - {""})
    if found:
        raise StackUnavailable(
            f"a Spark executor cannot load the app {where} on {found[0]}; install the packages of requirements.lock on every "
            "node, under the Python that PYSPARK_PYTHON names; our packages and the app are sent by themselves"
        )


def zipped(folder: Path, target: Path) -> Path:
    """Write a package's folder into a zip, the same bytes for the same files, and return its path."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_files(folder)):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", _FIRST_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return target


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _first(application: str, what: str) -> bool:
    known = (application, what) in _shipped
    _shipped.add((application, what))
    return not known
