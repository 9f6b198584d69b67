"""How many threads of torch a model gains by on a machine that others use too."""

import os

import torch

# Below, a matrix is done before a second thread has begun: tiny-llava's studies take as long on one thread as on two.
SMALL = 10_000_000  # weights


def spare_threads(weights: int) -> int:
    """One for a small model, else as many as the machine has processors that nothing else keeps busy; at least one.

    Torch's threads wait for one another at the end of each operation, so that one of them without a processor holds up
    all: on a busy machine two threads are several times slower than one. What OMP_NUM_THREADS says is kept.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    if weights < SMALL:
        return 1
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, own - round(busy))
