"""The notebooks run from top to bottom, and their kept outputs say nothing of the machine that made them."""

import re
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import NOTEBOOKS, environment, execute

SECRETS = re.compile(
    r"(?<![\w.])/(home|root|work|tmp|Users|opt|var)/|https?://(?!www\.w3\.org)[^\s\"']*(pypi|simple|index)", re.I
)


@pytest.mark.usefixtures("programs")
def test_all_notebooks_run_over_one_history(tmp_path: Path, redis_factory) -> None:  # type: ignore[no-untyped-def]
    variables = environment(tmp_path, redis_factory().connection_string)
    for path in NOTEBOOKS:
        executed = execute(path, variables)
        plots = [o for cell in executed.cells for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]
        assert plots, f"{path.name} shows no plot"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_outputs_are_whole_and_name_no_path_and_no_package_index(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it with `make notebooks`"
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", output
            texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
            for text in texts:
                assert not SECRETS.search(text), SECRETS.search(text)
    assert path.stat().st_size < 200_000
