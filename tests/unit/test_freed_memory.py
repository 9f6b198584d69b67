"""What is freed is used again without the system's help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASKING = """
import resource
from studies.run.memory import keep_freed_memory
print(keep_freed_memory() if {keeping} else True)
for step in range(11):
    several = [b"x" * (8 << 20) for _ in range(6)]
    del several
    if step == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keeping: bool, **environment: str) -> tuple[bool, int]:
    """Whether memory is kept, and how many pages the system gave in ten rounds of the same work."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environment
    done = subprocess.run(
        [sys.executable, "-c", ASKING.format(keeping=keeping)],
        capture_output=True,
        text=True,
        check=True,
        env=own,
        cwd=Path(__file__).parents[2],
    )
    said, pages = done.stdout.split()
    return said == "True", int(pages)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_is_freed_is_used_again() -> None:
    kept, few = faults(True)
    if not kept:
        pytest.skip("another C library")
    assert few < 0.1 * faults(False)[1]


def test_the_environment_decides_first() -> None:
    assert not faults(True, MALLOC_ARENA_MAX="2")[0]
