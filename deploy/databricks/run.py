"""Runs one verb of `stillpoint` as a Databricks task: the task names this file, the verb and its arguments."""

import os
import sys

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

from stillpoint.cli import run  # noqa: E402

code = 1
try:
    code = run(sys.argv[1:])
finally:  # the run's page ends with this line, whatever happened
    print(f"stillpoint {' '.join(sys.argv[1:])} ended with exit code {code}", flush=True)
if code:
    # A task succeeds unless it raises or ends with a code: SystemExit(0) is no end that every runtime takes for success.
    raise SystemExit(code)
