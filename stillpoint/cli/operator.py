"""Names who runs a command, for the release book and the audit log."""

import getpass
import os
import socket


def operator() -> str:
    """Return user, host and process of this command."""
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
