"""Runs the notebooks from top to bottom, on servers and a lake of their own.

`python notebooks/execute.py` runs all of them and writes their outputs back (`make notebooks`); a test runs them without
writing. What would differ from run to run or machine to machine is taken out of the outputs.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

from stillpoint.local.redis_server import RedisServer

HERE = Path(__file__).parent
NOTEBOOKS = sorted(HERE.glob("0*.ipynb"))
TIMEOUT_SECONDS = 300


def environment(home: Path, redis: str) -> dict[str, str]:
    """Return the variables of a kernel whose stack is one Redis and one folder."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "STILLPOINT_HOME": str(home),
        "STILLPOINT_LAKE": str(home / "lake"),
        "STILLPOINT_MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        **{f"STILLPOINT_REDIS_{name}": redis for name in ("GREEN", "BLUE", "SANDBOX", "SERVING", "STATE")},
    }


def execute(path: Path, variables: dict[str, str]) -> nbformat.NotebookNode:
    """Run a notebook in the repository's root and return it with its outputs.

    Raises:
        CellExecutionError: names the cell that failed.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(
        notebook, timeout=TIMEOUT_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(HERE.parent)}}
    )
    client.execute(env=variables)
    return notebook


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out of the outputs what says nothing: what went to stderr, times of execution, and a table's second form."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for output in cell.outputs:
                output.pop("metadata", None)
                if output.output_type != "stream":
                    output["metadata"] = {}
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    """Run all notebooks over one history, and write them with their outputs."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder) / "redis")
        try:
            variables = environment(Path(folder) / "home", server.connection_string)
            for path in NOTEBOOKS:
                sys.stdout.write(f"{path.name}\n")
                sys.stdout.flush()
                nbformat.write(tidy(execute(path, variables)), path)  # type: ignore[no-untyped-call]
        finally:
            server.stop()


if __name__ == "__main__":
    main()
