"""Real engines, one after the other in a process.

`RUNNER=v2` runs the same tests with vLLM's second model runner, whose kernels Triton's own interpreter computes where
there is no GPU.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORLD = Path(os.environ.get("SERVING_WORLD", HERE.parents[1] / ".serving" / "world"))
sys.path.insert(0, str(HERE))
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)
if os.environ.get("RUNNER") == "v2":
    import interpreter

    interpreter.install()

import pytest  # noqa: E402
import torch  # noqa: E402

from world import World  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    if not (WORLD / "done").exists():
        pytest.exit(f"{WORLD} holds nothing to compare with; `make test-serving` writes it.", 2)


@pytest.fixture(scope="session")
def llava() -> World:
    return World(WORLD / "llava")


@pytest.fixture(scope="session")
def qwen2vl() -> World:
    return World(WORLD / "qwen2vl")


@pytest.fixture(scope="session")
def engines() -> Iterator[Any]:
    """At most one engine is alive; one that is asked for again with the same settings is kept."""
    from engines import Engines  # a test of the server needs none in its own process

    kept = Engines()
    yield kept
    kept.close()
