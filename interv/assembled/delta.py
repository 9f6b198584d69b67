"""What training adds to the base: low-rank changes of the language model's linear layers, and the projector whole.

A file of safetensors, in half precision: `projector.<name>` as the module names it, and for every changed layer
`lora.<path>.down` [rank, inputs] and `lora.<path>.up` [outputs, rank]. The weight becomes weight + SCALE * up @ down.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

SCALE = 2.0  # LoRA's alpha / rank


class LowRank(nn.Module):
    """A frozen linear layer and its change."""

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear
        down = torch.randn(rank, linear.in_features, generator=generator) / linear.in_features**0.5
        self.down, self.up = nn.Parameter(down), nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, hidden: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return self.linear(hidden) + SCALE * F.linear(F.linear(hidden, self.down), self.up)


def open_for_training(model: LlavaForConditionalGeneration, rank: int, seed: int) -> list[nn.Parameter]:
    """Freeze the model, put a change beside each linear layer of the language model; return the changes' parameters."""
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    text = model.model.language_model
    linear = [path for path, module in text.named_modules() if isinstance(module, nn.Linear)]
    for path in linear:
        parent, _, name = path.rpartition(".")
        setattr(text.get_submodule(parent), name, LowRank(text.get_submodule(path), rank, generator))
    return [parameter for _, change in _changes(model) for parameter in (change.down, change.up)]


def save_delta(model: LlavaForConditionalGeneration, file: Path) -> None:
    """The changes of a model that was opened for training, and its projector."""
    tensors = {f"projector.{name}": value for name, value in model.model.multi_modal_projector.state_dict().items()}
    for path, change in _changes(model):
        tensors |= {f"lora.{path}.down": change.down, f"lora.{path}.up": change.up}
    save_file({name: tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}, file)


def put_delta(model: LlavaForConditionalGeneration, file: Path) -> None:
    """Go on from a delta: into a model that was opened for training."""
    projector, lora = _read(file)
    model.model.multi_modal_projector.load_state_dict(projector)
    with torch.no_grad():
        for path, change in _changes(model):
            change.down.copy_(lora[f"{path}.down"])
            change.up.copy_(lora[f"{path}.up"])


def add_delta(model: LlavaForConditionalGeneration, file: Path) -> None:
    """Merge a delta into the model's weights, in place. Raises ValueError where it belongs to another model."""
    projector, lora = _read(file)
    text = model.model.language_model
    paths = {name.removesuffix(".down") for name in lora if name.endswith(".down")}
    own = {path for path, module in text.named_modules() if isinstance(module, nn.Linear)}
    if not paths <= own:
        raise ValueError(f"{file} changes {min(paths - own)}, which this language model lacks; it is another's delta.")
    model.model.multi_modal_projector.load_state_dict(projector)
    with torch.no_grad():
        for path in sorted(paths):
            change = lora[f"{path}.up"] @ lora[f"{path}.down"]
            text.get_submodule(path).weight += SCALE * change


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The projector's tensors and the changes', each by the rest of their names, in float32."""
    tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    projector, lora = (
        {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        for start in ("projector.", "lora.")
    )
    return projector, lora


def _changes(model: LlavaForConditionalGeneration) -> Iterator[tuple[str, LowRank]]:
    text = model.model.language_model
    return ((path, module) for path, module in text.named_modules() if isinstance(module, LowRank))
