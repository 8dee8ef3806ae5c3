"""What libraries log and warn of goes to a file of the home; what a user sees is ours.

Feast's, MLflow's and boto's words reach standard error by default, between the lines of a verb. While a verb runs, they are
written to `logs/libraries.log` below STILLPOINT_HOME instead, from warnings on. Long-running verbs set a log of their own.
"""

import logging
import logging.handlers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BYTES = 5_000_000
_LOUD = ("feast", "mlflow", "great_expectations", "sagemaker", "botocore", "boto3", "urllib3", "py4j", "alembic", "git")
"""Libraries that bring handlers of their own, or turn the root logger's up."""
_SILENCED = {
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""What MLflow must be told by the environment: it would add a handler of its own, draw bars, and write addresses among our JSON."""
_FORMAT = "%(asctime)s %(process)d %(name)s %(levelname)s: %(message)s"


class _Quiet(logging.handlers.RotatingFileHandler):
    """A file that nobody needs: where it cannot be written, nothing is said."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_BYTES, backupCount=1, delay=True, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """Say nothing."""


@contextmanager
def log_libraries() -> Iterator[None]:
    """Keep the libraries' words off the terminal for as long as the block runs. The file appears with its first line."""
    home = Path(os.environ.get("STILLPOINT_HOME") or ".stillpoint").expanduser().absolute()
    for name, value in _SILENCED.items():
        os.environ.setdefault(name, value)
    handler, root = _Quiet(home / "logs" / "libraries.log"), logging.getLogger()
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.setLevel(logging.WARNING)
    loud = [logging.getLogger(name) for name in _LOUD]
    before = [(logger.propagate, logger.handlers) for logger in loud]
    of_root, root.handlers = root.handlers, [handler]
    for logger in loud:  # one that was imported before may have a handler of its own to standard error
        logger.propagate, logger.handlers = False, [handler]
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers = of_root
        for logger, (propagated, handlers) in zip(loud, before, strict=True):
            logger.propagate, logger.handlers = propagated, handlers
        handler.close()
