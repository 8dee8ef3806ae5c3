"""Starts a server that ends when whoever started it ends.

Run as a program: `python launch.py PARENT COMMAND…` asks the kernel to send SIGTERM to this process when PARENT ends,
then becomes COMMAND under the same process id. PARENT 0 asks for nothing: the server outlives its starter. Only Linux
can do this; elsewhere a pid file is what is left for the next start to clean up. It imports nothing of the project, so
that it costs a few milliseconds.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command; exits with 127 if it cannot be run."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if parent and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the request was in place
            raise SystemExit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        raise SystemExit(127) from None


if __name__ == "__main__":
    main()
