"""vLLM's second model runner without a GPU: Triton's interpreter runs its kernels."""

import os
from typing import Any


class _Driver:
    @staticmethod
    def is_active() -> bool:
        return True

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")


class _Backend:
    driver = _Driver
    compiler = None


def install() -> None:
    """Before vLLM is imported; in the process that runs the model."""
    os.environ.update(TRITON_INTERPRET="1", VLLM_USE_V2_MODEL_RUNNER="1")
    import triton.backends

    triton.backends.backends["cpu"] = _Backend  # type: ignore[assignment]
