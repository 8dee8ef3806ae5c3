"""Finds the files of a source path: one file, the Parquet files of a folder, or of a glob; folders `key=value` are columns.

A path that exists literally is taken literally, even with brackets in its name; otherwise it is a glob.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from stillpoint.errors import InvalidInput, NothingStored

_WILD = re.compile(r"[*?\[]")
_PARQUET = re.compile(r".*\.(parquet|parq|pq)", re.IGNORECASE)
_PUSHED = re.compile(r"pushed-([0-9]{20})-[0-9a-f-]+\.parquet")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """Files in order of their paths, pushed ones last. The folders between `base` and a file are partitions."""

    base: str
    files: tuple[pafs.FileInfo, ...]

    def partitions(self, path: str) -> tuple[tuple[str, str | None], ...]:
        """Return the columns that a file's folders name, with their values as text."""
        parts = (part.partition("=") for part in path[len(self.base) :].split("/")[:-1] if "=" in part)
        return tuple((unquote(key), None if value == _NO_VALUE else unquote(value)) for key, _, value in parts)


def find_files(filesystem: pafs.FileSystem, inner: str, name: str, path: str) -> SourceFiles:
    """Return the Parquet files of a path within a file system. Names that begin with `_` or `.` are left out.

    Raises:
        NothingStored: there is no such file or folder, or it holds no file.
    """
    base, pattern = split_glob(filesystem, inner)
    info = filesystem.get_file_info(base)
    if info.type == pafs.FileType.NotFound:
        raise NothingStored(f"source {name!r}: no file or folder at {path}")
    if info.type == pafs.FileType.File:
        return SourceFiles(base, (info,))
    below = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
    files = sorted(
        (found for found in below if _is_data(found, base)), key=lambda found: (pushed_at(found.base_name), found.path)
    )
    if pattern is not None:
        matched = re.compile(re.escape(base.rstrip("/")) + "/" + _glob_pattern(pattern))
        direct = [found for found in files if matched.fullmatch(found.path)]
        # Where a glob names folders alone, it means the files in them.
        files = direct or _parquet_first([found for found in files if _below(found.path, matched)])
    else:
        files = _parquet_first(files)
    if not files:
        raise NothingStored(f"source {name!r}: {path} holds no Parquet file")
    return SourceFiles(base, tuple(files))


def pushed_name(at: int, unique: str) -> str:
    """Return the name of a file that a push adds to a folder, `at` being its time in microseconds."""
    return f"pushed-{at:020d}-{unique}.parquet"


def pushed_at(name: str) -> int:
    """Return the push time in a file's name, in microseconds since 1970; -1 for a file that no push added."""
    found = _PUSHED.fullmatch(name)
    return -1 if found is None else int(found[1])


def split_glob(filesystem: pafs.FileSystem, inner: str) -> tuple[str, str | None]:
    """Return the literal beginning of a path, and the glob after it if there is one."""
    parts = inner.split("/")
    for place, part in enumerate(parts):
        if _WILD.search(part) is None:
            continue
        if filesystem.get_file_info("/".join(parts[: place + 1])).type == pafs.FileType.NotFound:
            return "/".join(parts[:place]) or "/", "/".join(parts[place:])
    return inner, None


def parse_partition(text: str | None, wanted: pa.DataType, where: str) -> pa.Scalar:
    """Return a partition value as a scalar of the wanted type.

    Raises:
        InvalidInput: the text is not a value of that type.
    """
    if text is None:
        return pa.scalar(None, wanted)
    try:
        if pa.types.is_timestamp(wanted):
            return pa.array([text]).cast(pa.timestamp(wanted.unit)).view(pa.int64()).view(wanted)[0]
        return pa.array([text]).cast(wanted)[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InvalidInput(
            f"{where} is {text!r} in the path, and is declared {wanted}; correct the folder or the declaration"
        ) from None


def partition_type(texts: Iterable[str | None]) -> pa.DataType:
    """Return the type of undeclared partition values: Int64 or Date if all of them are written so, else text."""
    found = {text for text in texts if text is not None}
    if not found:
        return pa.string()
    if all(_WHOLE.fullmatch(text) for text in found):
        return pa.int64()
    if all(_DAY.fullmatch(text) for text in found):
        try:
            pa.array(sorted(found)).cast(pa.date32())
        except pa.ArrowInvalid:
            return pa.string()
        return pa.date32()
    return pa.string()


def _is_data(info: pafs.FileInfo, base: str) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in info.path[len(base) :].split("/"))
    return info.type == pafs.FileType.File and not hidden


def _parquet_first(files: list[pafs.FileInfo]) -> list[pafs.FileInfo]:
    """Return the files with a Parquet suffix (in any case), or all files if none has one."""
    return [info for info in files if _PARQUET.fullmatch(info.path)] or files


def _below(path: str, matched: re.Pattern[str]) -> bool:
    parts = path.split("/")
    return any(matched.fullmatch("/".join(parts[:place])) for place in range(1, len(parts)))


def _glob_pattern(glob: str) -> str:
    """Return a pattern for the rest of a path: `*` stays within a folder, `**/` crosses them."""
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return "".join(tokens.get(p, p.replace("[!", "[^", 1) if p.startswith("[") else re.escape(p)) for p in parts)
