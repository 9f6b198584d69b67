"""The published procedure, written plainly with forward hooks: one item, one layer and one setting at a time.

Source: the published code of arXiv:2508.12815 runs context, positive and negative as passes of their own, reads one
layer a run, and at inference runs the prompt once for the context and again to reply.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from interv import VLM, Prompt
from methods import L2S, ContrastPair


@contextmanager
def hooked(module: nn.Module, hook: Callable) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def block(vlm: VLM, layer: int) -> nn.Module:
    return vlm.model.get_submodule(f"{vlm.layout.blocks}.{layer}")


def read_last(vlm: VLM, prompt: Prompt, layer: int) -> Tensor:
    """The hidden state leaving a block at the last token, [1, width], in a pass of its own."""
    kept: list[Tensor] = []
    with torch.no_grad(), hooked(block(vlm, layer), lambda module, args, output: kept.append(output[:, -1].clone())):
        vlm.model(**vlm.encode([prompt]).model_inputs())
    return kept[0]


def capture(vlm: VLM, pairs: Sequence[ContrastPair], layers: Sequence[int]) -> dict[int, tuple[Tensor, ...]]:
    """Context, positive and negative of every pair, [pairs, width] each, layer by layer."""
    found = {}
    for layer in layers:
        rows = [[read_last(vlm, p, layer) for p in (pair.prompt, pair.positive, pair.negative)] for pair in pairs]
        found[layer] = tuple(torch.cat(column) for column in zip(*rows, strict=True))
    return found


def steered(vlm: VLM, prompt: Prompt, steerer: L2S, strength: float, tokens: int) -> list[int]:
    """The reply's tokens: the prompt runs once for the context and once more to reply, from its last token on."""
    vector = strength * steerer.predict(read_last(vlm, prompt, steerer.reads))

    def add(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, -1] += vector.to(output)
        return changed

    with hooked(block(vlm, steerer.writes), add):
        return unsteered(vlm, prompt, tokens)


def unsteered(vlm: VLM, prompt: Prompt, tokens: int) -> list[int]:
    """Plain `generate` of the Hugging Face model."""
    inputs = vlm.encode([prompt]).model_inputs()
    inputs.pop("position_ids")
    output = vlm.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return output[0, inputs["input_ids"].shape[1] :].tolist()
