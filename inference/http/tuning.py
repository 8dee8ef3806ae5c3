"""Interpreter settings that keep answer times even while other threads load releases and write logs.

By default a thread may hold the interpreter lock for 5 ms at a time, a full garbage collection visits every object of a
release, and each numerical library starts a thread per core. Each of these takes longer than answering a request.
"""

import gc
import os
import sys

SWITCH_SECONDS = 0.0005
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread_per_process() -> None:
    """Limit numerical libraries imported from now on, in this process and its children, to one thread each."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")


def hand_over_quickly() -> None:
    """Switch between threads of this process more often, and collect garbage less often."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(20_000, 20, 50)


def keep_what_is_loaded() -> None:
    """Exclude all objects that exist now, which live as long as the process, from garbage collection."""
    gc.collect()
    gc.freeze()
