"""What libraries say while a verb runs goes to a file of the home, and standard output and error hold our words alone."""

import logging
import sys
import types
import warnings
from pathlib import Path

import pytest

from stillpoint import cli

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")  # the chatter is made here, in a test's name
SILENCED = (
    "MLFLOW_CONFIGURE_LOGGING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home, with a verb `daily` in which libraries chatter."""

    def daily() -> None:
        for name in ("feast.infra.registry.registry", "mlflow.tracking", "some_library"):
            logging.getLogger(name).warning("Registry cache expired")
        logging.getLogger("feast").info("so refreshing")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        sys.stdout.write('{"rows": 1}\n')

    module = types.ModuleType("ingestion.cli")
    module.daily = daily  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ingestion.cli", module)
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path / "home"))
    for name in SILENCED:
        monkeypatch.setenv(name, "unknown")
        monkeypatch.delenv(name)
    return tmp_path / "home"


def test_libraries_write_to_their_log_and_the_terminal_holds_our_words(
    home: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("feast").setLevel(logging.NOTSET)
    own = logging.StreamHandler(sys.stderr)  # as MLflow has one, once something has imported it
    monkeypatch.setattr(logging.getLogger("mlflow"), "handlers", [own])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.run(["daily"]) == 0
    shown = capfd.readouterr()
    assert shown.out == '{"rows": 1}\n'
    assert shown.err == ""
    written = (home / "logs" / "libraries.log").read_text()
    assert written.count("Registry cache expired") == 3
    assert "DeprecationWarning: old" in written
    assert "so refreshing" not in written


def test_a_run_leaves_the_loggers_as_they_were(home: Path) -> None:
    def state() -> list[tuple[int, bool]]:
        return [(len(one.handlers), one.propagate) for one in map(logging.getLogger, (None, "feast", "mlflow"))]

    before = state()
    cli.run(["daily"])
    assert state() == before


def test_a_home_that_cannot_be_written_costs_nobody_an_answer(home: Path, capfd) -> None:
    home.write_text("a file")
    assert cli.run(["daily"]) == 0
    assert capfd.readouterr().err == ""


def test_mlflow_writes_no_address_among_our_json_and_draws_no_bars_unless_told_to(home: Path, monkeypatch) -> None:
    from mlflow import environment_variables as mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")
    assert cli.run(["daily"]) == 0
    assert mlflow.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get() is True
    assert mlflow.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get() is True
    assert mlflow.MLFLOW_CONFIGURE_LOGGING.get() is False
