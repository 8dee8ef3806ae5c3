"""Runs one verb of `stillpoint` as a Databricks task: the task names this file, the verb and its arguments."""

import os
import sys

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

from stillpoint.cli import run  # noqa: E402

code = run(sys.argv[1:])
if code:
    # A task succeeds unless it raises or ends with a code: SystemExit(0) is no end that every runtime takes for success.
    raise SystemExit(code)
