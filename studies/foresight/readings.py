"""One pass over labelled yes/no prompts: what the last prompt token holds, and what the model is about to say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interv import VLM, Prompt, Site
from methods.contrasts.storage import load_fields, save_fields
from studies.foresight.words import Words
from studies.tasks.task import Example


@dataclass(frozen=True, eq=False)
class Readings:
    """A line a prompt.

    Attributes:
        states: of the last prompt token, leaving the blocks `layers`: what L2S may read.
        margins: logit(yes) - logit(no) of the reply's first token.
        yes: whether "yes" is right.
        said: "yes", "no" or "" by the reply's likeliest first token.
        units: what a prompt shares with others about the same image.
    """

    states: Float[Tensor, "prompts layers d_model"]
    margins: Float[Tensor, " prompts"]
    yes: Bool[Tensor, " prompts"]
    said: tuple[str, ...]
    id: tuple[str, ...]
    units: tuple[str, ...]
    layers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.margins)

    def at(self, layer: int) -> Float[Tensor, "prompts d_model"]:
        """The states leaving this block. Raises ValueError for a block that was not read."""
        if layer not in self.layers:
            raise ValueError(f"Block {layer} was not read; there are {', '.join(map(str, self.layers))}.")
        return self.states[:, self.layers.index(layer)].float()

    def rows(self, index: Sequence[int]) -> "Readings":
        """These lines, in this order."""
        chosen = list(index)
        said, id_, units = (tuple(lines[i] for i in chosen) for lines in (self.said, self.id, self.units))
        return Readings(self.states[chosen], self.margins[chosen], self.yes[chosen], said, id_, units, self.layers)

    def save(self, folder: str | Path) -> None:
        save_fields(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Readings":
        """Read what `save` wrote. Raises ValueError where the folder holds no readings."""
        return cls(**{name: value for name, value in load_fields(folder, cls, "said").items() if name != "agnostic"})


def read(
    vlm: VLM,
    examples: Sequence[Example],
    words: Words,
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
    context_of: Callable[[Prompt], Prompt] = lambda prompt: prompt,
    advance: Callable[[int], object] = lambda done: None,
) -> Readings:
    """Run each prompt once, and its last token once more for the logits. Nothing is fitted and nothing decoded.

    Args:
        examples: their targets are "yes" and "no".
        layers: blocks to read; all by default.
        context_of: the prompt that states are read from, where it is not the one that is answered; it costs a pass.
        advance: hears of the prompts that are done.

    Raises ValueError for no examples and for a target that is neither word.
    """
    if not examples:
        raise ValueError("There are no examples to read; give at least one.")
    if odd := next((one for one in examples if one.target not in ("yes", "no")), None):
        raise ValueError(f"{odd.id} wants {odd.target!r}; a forecast needs targets of yes and no.")
    blocks = tuple(range(vlm.n_layers)) if layers is None else tuple(dict.fromkeys(layers))
    sites = [Site(block) for block in blocks]
    states, margins, said = [], [], []
    for start in range(0, len(examples), batch_size):
        prompts = [example.prompt for example in examples[start : start + batch_size]]
        contexts = [context_of(prompt) for prompt in prompts]
        prefill = vlm.prefill(prompts, sites)
        captured = prefill.captured if contexts == prompts else vlm.capture(contexts, sites)
        logits = vlm.logits(prefill)
        states.append(torch.stack([captured[site].cpu() for site in sites], dim=1))
        margins.append(words.margins(logits))
        said += words.said(logits)
        advance(len(prompts))
    return Readings(
        torch.cat(states),
        torch.cat(margins),
        torch.tensor([example.target == "yes" for example in examples]),
        tuple(said),
        tuple(example.id for example in examples),
        tuple(example.unit for example in examples),
        blocks,
    )


def joined(parts: Sequence[Readings]) -> Readings:
    """The lines of several readings of the same blocks, in order."""
    said, id_, units = (
        tuple(text for part in parts for text in getattr(part, name)) for name in ("said", "id", "units")
    )
    states, margins, yes = (torch.cat([getattr(part, name) for part in parts]) for name in ("states", "margins", "yes"))
    return Readings(states, margins, yes, said, id_, units, parts[0].layers)
