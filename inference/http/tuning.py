"""Interpreter settings by which a process answers evenly while its threads load releases and write logs.

By default a thread may keep the interpreter for 5 ms at a time, a full garbage collection walks through all that a release
holds, and each numerical library starts a thread per core. Each of these costs an answer more than its own work.
"""

import gc
import os
import sys

SWITCH_SECONDS = 0.0005
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread_per_process() -> None:
    """Let numerical libraries that are imported from now on, here and in processes started from here, use one thread."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")


def hand_over_quickly() -> None:
    """Let threads of this process take turns often, and collect garbage less often."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(20_000, 20, 50)


def keep_what_is_loaded() -> None:
    """Leave what exists now, which lives as long as the process, out of garbage collections."""
    gc.collect()
    gc.freeze()
