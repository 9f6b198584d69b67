"""Memory that a study frees stays with its process: every decode step asks for tensors of the same sizes again."""

import ctypes
import os

# mallopt's numbers, from glibc's malloc.h, and bytes. More than 32 MB at once is always the system's.
_KEPT = {"M_MMAP_THRESHOLD": (-3, 1 << 25), "M_TRIM_THRESHOLD": (-1, 1 << 30), "M_TOP_PAD": (-2, 1 << 26)}


def keep_freed_memory() -> bool:
    """Have glibc keep up to 1 GB that is free, rather than give it back and have it zeroed anew; whether it does.

    Nothing changes with another C library, or where the environment tells glibc what to do (MALLOC_TRIM_THRESHOLD_).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS and musl have none, and Windows no library of this name
        return False
    return 0 not in [mallopt(name, size) for name, size in _KEPT.values()]
