"""Runs one verb of `stillpoint` as a job of EMR Serverless: the job names this file, the verb and its arguments."""

import sys

from stillpoint.cli import run

if __name__ == "__main__":
    code = run(sys.argv[1:])
    if code:
        # The driver's code is the job's: another than 0 makes it FAILED, which is tried again and told.
        raise SystemExit(code)
