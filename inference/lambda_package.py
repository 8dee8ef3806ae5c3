"""Builds the archive that is uploaded to Lambda.

`python -m inference.lambda_package FILE.zip` writes our code, `inference/` and what it takes of `stillpoint/`, and the app
that STILLPOINT_APP names; in the function, STILLPOINT_APP is the name of the app's folder. The libraries (the extra
`function`: 600 MB, more than a zip and its layers may hold) are in the image of `deploy/lambda`; with the stand-in,
PYTHONPATH names an environment that has them. The same sources give the same bytes.
"""

import io
import sys
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from inference import lambda_handler
from stillpoint import errors
from stillpoint.app.load import App, load_app
from stillpoint.cli import arguments
from stillpoint.cli.program import run_program
from stillpoint.lake.files import write_whole
from stillpoint.settings import Settings

HANDLER = "inference.lambda_handler.handle"
_LEFT_OUT = ("stillpoint/local/", "stillpoint/cli/")
_MOMENT = (1980, 1, 1, 0, 0, 0)


def package(app: App) -> bytes:
    """Return the bytes of the zip with our code and the app's; the same sources give the same bytes."""
    folders = [*(Path(str(module.__file__)).parent for module in (lambda_handler, errors)), app.folder]
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            for file in sorted(folder.rglob("*.py")):
                name = f"{folder.name}/{file.relative_to(folder).as_posix()}"
                if not name.startswith(_LEFT_OUT):
                    entry = zipfile.ZipInfo(name, _MOMENT)
                    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                    archive.writestr(entry, file.read_bytes())
    return sink.getvalue()


def main(file: Annotated[Path, typer.Argument(parser=arguments.destination, metavar="FILE.zip")]) -> None:
    """Write the package to a file, whole or not at all."""
    write_whole(file, package(load_app(Settings.load().app)))


if __name__ == "__main__":
    raise SystemExit(run_program("inference.lambda_package", main, sys.argv[1:]))
