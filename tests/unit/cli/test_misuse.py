"""Every option and argument of every verb refuses wrong values of its type before anything starts, in one sentence."""

import contextlib
import inspect
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from stillpoint import cli
from stillpoint.cli import arguments, moments
from stillpoint.cli.root import _load
from stillpoint.cli.verbs import VERBS
from stillpoint.settings import Settings

_DIGEST = "0123456789abcdef" * 4
_COUNTS = ["-1", "1.5", "nan", "many", "", "9" * 25, "99999999999999999999"]
_NUMBERS = ["-1", "nan", "inf", "-inf", "1e400", "soon", "", "1,5"]
_MOMENTS = ["yesterday", "", "2026-13-01", "9999-12-31", "2026-02-30T10:00:00Z", "12345678901234567890"]
_IDS = ["", "foo bar", "../x", "Ü", "a/b", "x" * 300, "s0\n"]
_FILES = ["", "/no/such/folder/file", "/dev/null/x", "x" * 300]

RIGHT_AND_WRONG: dict[Callable[[str], object], tuple[str, list[str]]] = {
    arguments.port: ("8090", [*_COUNTS, "65536", "99999", "http"]),
    arguments.processes: ("2", [*_COUNTS, "0", "65"]),
    arguments.seed: ("7", _COUNTS),
    arguments.version: ("1", [*_COUNTS, "0"]),
    arguments.sample: ("10", [*_COUNTS, "0"]),
    arguments.seconds: ("0.5", _NUMBERS),
    arguments.hours: ("24", _NUMBERS),
    arguments.share: ("0.5", [*_NUMBERS, "1.01"]),
    arguments.rate: ("50", [*_NUMBERS, "0.5", "5001"]),
    arguments.drift: ("0.2", [*_NUMBERS, "0"]),
    arguments.snapshot_id: ("s0123456789abcdef", [*_IDS, "s1", "r0001", "S0123456789abcdef"]),
    arguments.release_id: ("r0001", [*_IDS, "1", "r1", "R0001", "r00011111111111"]),
    arguments.recommendation_id: (_DIGEST[:32], [*_IDS, "foo", _DIGEST]),
    arguments.user_id: ("u00001", [*_IDS, "a b", " u1", "u1 ", "u\u200b1"]),
    arguments.content_id: ("c0001", ["", " ", "a\nb", " c1", "x" * 129]),
    arguments.feature: ("browsing:views_1h", ["", "a b", "A", "a:b:c", ":a", "a:", "-a", "x" * 200]),
    arguments.log_format: ("clicks", ["", "a b", "A", "-a", "a:b", "x" * 70]),
    arguments.label: ("app-2", ["", "a b", "a\nb", "-a", "x" * 65, "ü"]),
    arguments.endpoint: ("stillpoint-0123", [*_IDS, "-a", "a-", "a_b"]),
    arguments.digest: (_DIGEST, [*_IDS, "zzz", "foo", _DIGEST[:-1], _DIGEST.upper()]),
    arguments.app: ("examples/shop", ["", " ", "a\nb", "a;b", "x" * 2_000]),
    arguments.audit_head: (f"4:{_DIGEST}", [*_IDS, "4", f"x:{_DIGEST}", f"4:{_DIGEST[:-1]}", f"-4:{_DIGEST}"]),
    arguments.digest_beginning: ("0123", [*_IDS, "zzz", "012", _DIGEST + "0"]),
    arguments.routed_model: (f"today={_DIGEST}", [*_IDS, "zzz", "=", f"tomorrow={_DIGEST}", f"={_DIGEST}", "today="]),
    arguments.spark_master: ("local[2]", ["foo", "local[]", "local[0]", "local[x]", "spark://", "http://h:1", "yarn-x"]),
    arguments.host: ("127.0.0.1", ["", "foo bar", "-x", "1.2.3", "256.1.1.1", "http://x", "a..b", "x" * 300]),
    arguments.url: ("http://127.0.0.1:8090", ["", "foo", "127.0.0.1:1", "http://", "http://h:99999", "ftp://h", "http://a b"]),
    arguments.reason: ("as planned", ["", "  ", "a\nb", "x" * 501]),
    arguments.token: ("abc123", ["", "a b", "a\nb", "Ü", "x" * 513]),
    arguments.process: ("", [*_COUNTS, "0", "1", "4194304"]),
    arguments.source_file: (__file__, [*_FILES, "/tmp"]),
    arguments.destination: ("/tmp/stillpoint-page.html", [*_FILES, "/tmp"]),
    arguments.new_file: ("/tmp/stillpoint-archive.zip", [*_FILES, "/tmp", __file__]),
    arguments.folder: ("/tmp", ["", __file__, f"{__file__}/below", "/dev/null"]),
    moments.day: ("2026-03-01", _MOMENTS),
    moments.moment: ("2026-03-01T10:00:00Z", _MOMENTS),
    moments.start: ("LATEST", [*_MOMENTS, "latest", "EARLIEST"]),
}  # fmt: skip
"""For each parser a value that it takes, and values that it refuses."""


@dataclass(frozen=True)
class Parameter:
    """One option or argument of one command."""

    path: tuple[str, ...]
    command: Callable[..., Any]
    name: str
    type: Any
    info: ParameterInfo
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def option(self) -> str:
        declared = [self.info.default, *(getattr(self.info, "param_decls", None) or ())]
        given = [word for word in declared if isinstance(word, str) and word.startswith("--")]
        return (given[0] if given else f"--{self.name.replace('_', '-')}").partition("/")[0]


def commands() -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    for verb in VERBS:
        code = _load(verb)
        if not isinstance(code, typer.Typer):
            yield (verb.name,), code
            continue
        for one in code.registered_commands:
            yield (verb.name, one.name or one.callback.__name__.replace("_", "-")), one.callback
        assert not code.registered_groups, "walk the groups within groups too"


def parameters() -> list[Parameter]:
    found = []
    for path, command in commands():
        for name, one in inspect.signature(command, eval_str=True).parameters.items():
            if one.annotation is typer.Context:
                continue
            assert get_origin(one.annotation) is Annotated, f"{path}: say what {name} is: an option or an argument"
            kind, *more = get_args(one.annotation)
            (info,) = (part for part in more if isinstance(part, ParameterInfo))
            found.append(Parameter(path, command, name, _plain(kind), info, one.default))
    return found


def _plain(kind: Any) -> Any:
    """Return the type without `None` and without the list around it."""
    inner = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is list or (len(inner) == 1 and get_origin(kind) is not tuple and isinstance(kind, _UNIONS)):
        return _plain(inner[0])
    return kind


_UNIONS = (type(int | None), type(Union[int, None]))  # noqa: UP007
PARAMETERS = parameters()


def wrong(one: Parameter) -> list[str]:
    if one.info.parser is not None:
        assert one.info.parser in RIGHT_AND_WRONG, f"say what is wrong for {one.info.parser.__name__}"
        return RIGHT_AND_WRONG[one.info.parser][1]
    if one.type is bool or (inspect.isclass(one.type) and issubclass(one.type, Enum)):
        return ["pink", ""]
    assert one.type is int, f"{' '.join(one.path)} {one.name} takes any {one.type}: give it a parser"
    assert None not in (one.info.min, one.info.max), f"{' '.join(one.path)} {one.name} has no range"
    return ["x", "1.5", "", f"{one.info.min - 1}", f"{one.info.max + 1}", "nan", "9" * 30]


def right(one: Parameter) -> str:
    if one.info.parser is not None:
        return RIGHT_AND_WRONG[one.info.parser][0]
    return next(iter(one.type)).value if issubclass(one.type, Enum) else str(one.info.min)


def words(one: Parameter, value: str) -> list[str]:
    """Return a command line that is right but for this parameter."""
    options, places = [], []
    for other in PARAMETERS:
        if other.path != one.path or (other.name != one.name and not other.required):
            continue
        told = value if other.name == one.name else right(other)
        if isinstance(other.info, ArgumentInfo):
            places.append(told)
        else:
            options.append(f"{other.option}={told}")
    return [*one.path, *options, "--", *places]


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def started(*given: object, **more: object) -> Any:
        raise AssertionError(f"something was started: {given}")

    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))
    monkeypatch.setattr(Settings, "load", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(socket.socket, "connect", started)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("one", PARAMETERS, ids=lambda one: f"{'-'.join(one.path)}-{one.name}")
def test_a_wrong_value_is_a_usage_error_of_one_line_and_starts_nothing(one: Parameter, capsys, tmp_path: Path) -> None:
    for value in wrong(one):
        code = cli.run(words(one, value))
        shown = capsys.readouterr()
        assert code == 2, (one.path, one.name, value, shown.err)
        assert shown.err.startswith("error: "), value
        assert shown.err.count("\n") == 1, shown.err
        assert "Traceback" not in shown.err
        assert "unexpected" not in shown.err
        assert shown.out == ""
    assert not (tmp_path / "logs").exists(), "a usage error is no defect"


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("path", [path for path, _ in commands() if path != ("feast",)], ids="-".join)
def test_an_unknown_option_and_a_surplus_word_are_usage_errors(path: tuple[str, ...], capsys) -> None:
    for more in (["--no-such-option"], ["--json=1", "--"], ["--", *(["sur plus"] * 9)]):
        assert cli.run([*path, *more]) == 2
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("parser", RIGHT_AND_WRONG, ids=lambda parser: parser.__name__)
def test_a_right_value_is_taken(parser: Callable[[str], object]) -> None:
    if parser is arguments.process:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            assert parser(str(other.pid)) == other.pid
        return
    parser(RIGHT_AND_WRONG[parser][0])


def test_every_parser_has_its_wrong_values() -> None:
    assert set(arguments.PARSERS) | {moments.day, moments.moment, moments.start} == set(RIGHT_AND_WRONG)
    assert all(values for _, values in RIGHT_AND_WRONG.values())


@pytest.mark.parametrize("parser", RIGHT_AND_WRONG, ids=lambda parser: parser.__name__)
@given(
    text=st.text() | st.sampled_from(["0x10", "١٢", "1_000", "+5", " 5", "5\n", "\0", "\ud83d", "~nobody/x", "nul\0"])
)
def test_any_text_is_a_value_or_a_refusal(parser: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(typer.BadParameter):
        parser(text)


@pytest.mark.parametrize(
    ("master", "good"),
    [("local", True), ("local[*]", True), ("local[4,2]", True), ("yarn", True), ("spark://h1:7077,h2:7077", True),
     ("k8s://https://10.0.0.1:6443", True), ("", True), ("local[-1]", False), ("localhost", False)],
)  # fmt: skip
def test_spark_masters_are_told_from_other_words(master: str, good: bool) -> None:
    if good:
        assert arguments.spark_master(master) == master
    else:
        with pytest.raises(typer.BadParameter, match="is no Spark master"):
            arguments.spark_master(master)


def test_a_usage_error_imports_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    lines = [words(one, wrong(one)[0]) for one in PARAMETERS if one.info.parser is not None]
    program = (
        "import json, sys\nfrom stillpoint.cli import run\n"
        "codes = {run(line) for line in json.load(sys.stdin)}\n"
        "heavy = {'feast', 'pyspark', 'mlflow', 'xgboost', 'sagemaker', 'great_expectations', 'sklearn', 'uvicorn'}\n"
        "print(sorted(codes), sorted(heavy & set(sys.modules)))\n"
    )
    import json

    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(lines), capture_output=True, text=True, check=True, cwd=tmp_path
    )  # fmt: skip
    assert done.stdout == "[2] []\n"


def test_options_are_introspected(capsys: pytest.CaptureFixture[str]) -> None:
    """The walk finds what `--help` shows: no option of any verb is left out."""
    for path, _ in commands():
        assert cli.run([*path, "--help"]) == 0
        shown = capsys.readouterr().out
        known = {one.option for one in PARAMETERS if one.path == path and isinstance(one.info, OptionInfo)}
        heads = [line.strip().partition("  ")[0] for line in shown.splitlines() if line.startswith("  -")]
        listed = {
            word.strip(",")
            for head in heads
            for word in head.replace("/", " ").split()
            if re.fullmatch(r"--[a-z-]+,?", word)
        }
        assert known <= listed, path
        assert {word for word in listed if not word.startswith("--no-")} == known | {"--help"}, path
