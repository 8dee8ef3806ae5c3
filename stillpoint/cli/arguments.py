"""Parsers of command-line arguments other than times: each argument is checked before anything starts.

Each function is the `parser` of an option or argument; times are in `moments.py`. It returns the value, or raises typer's
`BadParameter` with what was found and what was expected. None asks a server; files are looked at, and nothing is written.
Typer parses an option's default too, so numbers and paths arrive as themselves.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import typer

from stillpoint.audit.head import Head
from stillpoint.durations import seconds_of
from stillpoint.messages import USER_ID_FORM, Kind, is_user_id

LONGEST_TEXT = 500
MAX_NAME_LENGTH = 128
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = r"[a-z][a-z0-9_]{0,62}"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MASTER = re.compile(
    r"local|local\[(\*|[1-9]\d{0,3})(,\d{1,3})?\]|local-cluster\[\d+,\d+,\d+\]|yarn"
    rf"|spark://{_HOST.pattern}:\d{{1,5}}(,{_HOST.pattern}:\d{{1,5}})*|k8s://\S+"
)


@dataclass(frozen=True, slots=True)
class RoutedModel:
    """A model by its SHA-256, and the kind that it answers; None for every kind."""

    kind: Kind | None
    sha256: str


def feature(text: str) -> str:
    """Return a feature's name, or `view:name`."""
    if not re.fullmatch(rf"({_NAME}:)?{_NAME}", text):
        raise typer.BadParameter(
            f"{ascii(text)[:80]}; expected a feature's name such as views_1h, or browsing:views_1h"
        )
    return text


def log_format(text: str | None) -> str | None:
    """Return the name of a log's format."""
    if text is not None and not re.fullmatch(_NAME, text):
        raise typer.BadParameter(
            f"{ascii(text)[:80]}; expected the name of a format that the app declares, such as clicks"
        )
    return text


def port(text: str) -> int:
    """Return a TCP port; the meaning of 0 (a free port, or none) depends on the option."""
    return _whole(text, 0, 65_535)


def processes(text: str) -> int:
    """Return how many processes to run."""
    return _whole(text, 1, 64)


def seed(text: str) -> int:
    """Return a seed of random numbers."""
    return _whole(text, 0, 2**63 - 1)


def version(text: str) -> int:
    """Return the number of an id mapping."""
    return _whole(text, 1, 2**31 - 1)


def sample(text: str) -> int:
    """Return a sample size."""
    return _whole(text, 1, 10_000_000)


def seconds(text: str) -> float:
    """Return a duration of at most a year, in seconds."""
    try:
        found = seconds_of(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return _number(found, 0, 366 * 86_400)


def hours(text: str) -> float:
    """Return a duration of at most a century."""
    return _number(text, 0, 100 * 366 * 24)


def share(text: str) -> float:
    """Return a share of a whole."""
    return _number(text, 0, 1)


def rate(text: str) -> float:
    """Return how many requests a second."""
    return _number(text, 1, 5_000)


def drift(text: str) -> float:
    """Return a limit of a distance between distributions."""
    found = _number(text, 0, 1_000)
    if not found:
        raise typer.BadParameter("0 is no limit: everything differs by a little; expected more than 0")
    return found


def snapshot_id(text: str) -> str:
    """Return the id of a snapshot."""
    return _like(
        text, r"s[0-9a-f]{16}", "a snapshot", "s and 16 hexadecimal digits, as `stillpoint snapshot` prints it"
    )


def release_id(text: str) -> str:
    """Return the id of a release."""
    return _like(text, r"r[0-9]{4,12}", "a release", "r0001 and so on, as `stillpoint release history` shows it")


def recommendation_id(text: str) -> str:
    """Return the id of a recommendation."""
    return _like(text, r"[0-9a-f]{32}", "a recommendation", "32 hexadecimal digits, as every answer names it")


def user_id(text: str) -> str:
    """Return the id of a user as an event may carry it."""
    if not is_user_id(text):
        raise typer.BadParameter(f"{_excerpt(text)} is not a user id; expected {USER_ID_FORM}, as events carry it")
    return text


def content_id(text: str) -> str:
    """Return the id of a content as an event may carry it."""
    if not 1 <= len(text) <= MAX_NAME_LENGTH or not text.isprintable() or text != text.strip() or text.isspace():
        raise typer.BadParameter(
            f"{_excerpt(text)} is no content; expected 1 to {MAX_NAME_LENGTH} printable characters"
        )
    return text


def app(text: str) -> str:
    """Return the folder or the package of an app; whether there is one is for `load_app` to say."""
    return _like(text, r"[\w./~@-][\w ./~@-]{0,1000}", "an app", "a folder's path or a package's name")


def label(text: str) -> str:
    """Return a name that is shown in logs."""
    return _like(
        text, r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", "a name", "1 to 64 letters, digits and ._@-, as logs show it"
    )


def endpoint(text: str) -> str:
    """Return the name of a SageMaker endpoint."""
    pattern = r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}"
    return _like(text, pattern, "an endpoint's name", "up to 63 letters, digits and hyphens within")


def digest(text: str) -> str:
    """Return the SHA-256 of a model, given as such or as the model's key in the lake."""
    found = text.rpartition("/")[2].removesuffix(".tar.gz")
    if _DIGEST.fullmatch(found) is None:
        raise typer.BadParameter(
            f"{_excerpt(text)} is no model; expected a sha256 of 64 hexadecimal digits, as `stillpoint train` prints it"
        )
    return found


def digest_beginning(text: str) -> str:
    """Return the SHA-256 of a model, or at least its first four digits."""
    return _like(text, r"[0-9a-f]{4,64}", "a model", "4 to 64 hexadecimal digits, as `stillpoint train` prints them")


def audit_head(text: str) -> Head:
    """Return the head of an audit log."""
    sequence, _, sha256 = _like(
        text, r"\d{1,12}:[0-9a-f]{64}", "a head", "SEQUENCE:SHA256 as `stillpoint audit verify` prints it"
    ).partition(":")
    return Head(int(sequence), sha256)


def routed_model(text: str) -> RoutedModel:
    """Return a model for one kind of recommendation, or for all."""
    kind, equals, sha256 = text.rpartition("=")
    if equals and kind not in set(Kind):
        raise typer.BadParameter(f"there is no kind {_excerpt(kind)}; there are {', '.join(Kind)}")
    return RoutedModel(Kind(kind) if equals else None, digest(sha256))


def spark_master(text: str) -> str:
    """Return a master URL that Spark knows; empty takes the platform's."""
    if text and _MASTER.fullmatch(text) is None:
        raise typer.BadParameter(
            f"{_excerpt(text)} is no Spark master; expected local[2], local[*], yarn, spark://host:7077, k8s://… or nothing"
        )
    return text


def host(text: str) -> str:
    """Return a name or an IP address to listen on."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if _HOST.fullmatch(text) is None or len(text) > 253 or re.fullmatch(r"[\d.]+", text):
            raise typer.BadParameter(
                f"{_excerpt(text)} is no address; expected a host's name or an IP address, like 127.0.0.1"
            ) from None
    return text


def url(text: str) -> str:
    """Return the address of an HTTP service."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:
        good = False
    if not good or " " in text:
        raise typer.BadParameter(f"{_excerpt(text)} is no address; expected something like http://127.0.0.1:8090")
    return text


def reason(text: str) -> str:
    """Return a reason as one line of readable text."""
    if not text.strip() or not text.isprintable() or len(text) > LONGEST_TEXT:
        raise typer.BadParameter(f"{_excerpt(text)} says nothing; expected 1 to {LONGEST_TEXT} characters in one line")
    return text.strip()


def token(text: str) -> str:
    """Return a bearer token, which travels in an HTTP header. Never shown, also not when it is refused."""
    if re.fullmatch(r"[A-Za-z0-9._~+/=-]{1,512}", text) is None:
        raise typer.BadParameter("it is no bearer token; expected 1 to 512 letters, digits and ._~+/=-, without blanks")
    return text


def process(text: str) -> int:
    """Return the id of a process that runs and is not this one."""
    found = _whole(text, 2, 2**22)
    if found == os.getpid() or not _runs(found):
        raise typer.BadParameter(f"no process {found} runs that this user may signal")
    return found


def source_file(text: str) -> Path:
    """Return a file that can be read."""
    path = _path(text)
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; expected a file")
    if not path.exists():
        raise typer.BadParameter(f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise typer.BadParameter(f"{path} may not be read")
    return path


def destination(text: str) -> Path:
    """Return the path of a file to write; an existing file is replaced."""
    path = _path(text)
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; name a file in it")
    if path.exists() and not os.access(path, os.W_OK):
        raise typer.BadParameter(f"{path} may not be written")
    _refuse_no_folder(path.absolute().parent)
    return path


def new_file(text: str) -> Path:
    """Return the path of a new file to write."""
    path = destination(text)
    if path.exists() or path.is_symlink():
        raise typer.BadParameter(f"{path} exists already; name another file")
    return path


def folder(text: str) -> Path:
    """Return a folder that exists and is writable, or can be created."""
    path = _path(text)
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"{path} is a file; expected a folder")
    present = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    _refuse_no_folder(present)
    return path


PARSERS: tuple[Callable[[str], object], ...] = (
    port,
    processes,
    seed,
    version,
    sample,
    seconds,
    hours,
    share,
    rate,
    drift,
    snapshot_id,
    release_id,
    recommendation_id,
    user_id,
    content_id,
    feature,
    log_format,
    label,
    endpoint,
    digest,
    app,
    audit_head,
    digest_beginning,
    routed_model,
    spark_master,
    host,
    url,
    reason,
    token,
    process,
    source_file,
    destination,
    new_file,
    folder,
)


def _whole(text: str | int, least: int, most: int) -> int:
    text = str(text)
    if re.fullmatch(r"[+-]?[0-9]{1,30}", text) is None or not least <= int(text) <= most:
        raise typer.BadParameter(f"{_excerpt(text)}; expected a whole number from {least} to {most}")
    return int(text)


def _number(text: str | float, least: float, most: float) -> float:
    text = str(text)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not least <= found <= most:  # not a number is in no range
        raise typer.BadParameter(f"{_excerpt(text)}; expected a number from {least:g} to {most:g}")
    return found


def _like(text: str, pattern: str, what: str, expected: str) -> str:
    if re.fullmatch(pattern, text) is None or text.endswith("\n"):
        raise typer.BadParameter(f"{_excerpt(text)} is not {what}; expected {expected}")
    return text


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _path(text: str | Path) -> Path:
    text = str(text)
    try:
        written = os.fsencode(text)
    except UnicodeEncodeError:
        written = b""
    if not written.strip() or b"\0" in written or len(written) > 4_000:
        raise typer.BadParameter(f"{_excerpt(text)} is no path")
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise typer.BadParameter(f"{_excerpt(text)} is no path: {error}") from None
    return path


def _refuse_no_folder(path: Path) -> None:
    if not path.exists():
        raise typer.BadParameter(f"there is no folder {path}")
    if not path.is_dir():
        raise typer.BadParameter(f"{path} is a file; expected a folder")
    if not os.access(path, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"the folder {path} may not be written")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
