"""Which model a study runs, and how its weights are loaded."""

from dataclasses import dataclass
from typing import Any

import torch

from interv import VLM
from interv.models.load import outline
from studies.run.memory import keep_freed_memory


def check_dtype(name: str | None) -> None:
    """Raise ValueError for a name that is no dtype of torch."""
    if name not in (None, "auto") and not isinstance(getattr(torch, str(name), None), torch.dtype):
        raise ValueError(f"--dtype {name} is none of torch's; give float32, bfloat16 or float16.")


def check_device(name: str) -> None:
    """Raise ValueError for a device that torch does not know or has not."""
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise ValueError(
            f"--device {name} is none of torch's ({str(error).splitlines()[0]}); give cpu or cuda."
        ) from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device {name}: torch finds no CUDA device here; run on the CPU, or install torch for CUDA."
        )


@dataclass(frozen=True)
class Checkpoint:
    """The arguments of every study that say which model it runs, and where."""

    model: str = "tiny-llava"  # an embedded model, a local folder, or a hub id
    revision: str | None = None  # of the hub: a branch, a tag or a commit
    local_files_only: bool = False  # load what was downloaded before, ask no hub
    device: str = "cpu"  # where the model runs
    device_map: str | None = None  # "auto" spreads the weights over all GPUs and the memory; instead of --device
    dtype: str | None = None  # of the weights; bfloat16 on a GPU, the checkpoint's own on the CPU
    attn_implementation: str | None = None  # "eager", "sdpa" or "flash_attention_2"; transformers' choice by default
    load_in_8bit: bool = False  # by bitsandbytes
    load_in_4bit: bool = False  # by bitsandbytes
    max_pixels: int | None = None  # an image is scaled to at most so many (Qwen2-VL: a token for each 784)
    min_pixels: int | None = None  # and to at least so many
    threads: int | None = None  # of torch on the CPU; by default what the model gains by and the machine has to spare

    def load(self) -> VLM:
        """The model with its processor. Raises as `VLM.load` does, and ValueError for no dtype or device of torch."""
        self._check()
        keep_freed_memory()
        options = {"device_map": self.device_map, "attn_implementation": self.attn_implementation}
        return VLM.load(
            self.model,
            dtype=self.dtype or ("bfloat16" if self.on_gpu else None),
            device=self.device,
            revision=self.revision,
            local_files_only=self.local_files_only,
            load_in_8bit=self.load_in_8bit,
            load_in_4bit=self.load_in_4bit,
            max_pixels=self.max_pixels,
            min_pixels=self.min_pixels,
            threads=self.threads or "spare",
            **options,
        )

    def outlined(self) -> VLM:
        """The model without its weights, to count with: it cannot run. Raises as `load` does."""
        self._check()
        model, processor = outline(
            self.model,
            dtype=self.dtype or ("bfloat16" if self.on_gpu else None),
            revision=self.revision,
            local_files_only=self.local_files_only,
            max_pixels=self.max_pixels,
            min_pixels=self.min_pixels,
        )
        return VLM(model, processor, self.model)

    def _check(self) -> None:
        check_dtype(self.dtype)
        if self.device_map is None:
            check_device(self.device)

    @property
    def on_gpu(self) -> bool:
        """Whether the weights go to an accelerator: by `device`, or by a device_map where there is one."""
        if self.device_map is not None:
            return self.device_map != "cpu" and torch.accelerator.is_available()
        return torch.device(self.device).type != "cpu"

    @property
    def bits(self) -> int | None:
        """Of each weight, where they are quantised."""
        return 4 if self.load_in_4bit else 8 if self.load_in_8bit else None

    def deciding(self, vlm: VLM) -> dict[str, Any]:
        """What decides the replies beside the weights' names, for the recipe: precision and, where given, the rest."""
        names = ("revision", "load_in_8bit", "load_in_4bit", "max_pixels", "min_pixels")
        kept = {name: getattr(self, name) for name in names}
        return {"model": self.model, "dtype": str(vlm.model.dtype)} | {k: v for k, v in kept.items() if v}
