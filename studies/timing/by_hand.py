"""The toolkit's own procedure in plain forward hooks: a prompt's pass, its last token again with a vector, one by one.

In the same precision it gives the same bits. One prompt at a time.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from interv import VLM, Prompt
from methods.training import Weights
from studies.timing.published import hooked


def prompt_pass(
    vlm: VLM, prompt: Prompt, layers: Sequence[int], shifts: Mapping[int, Tensor] | None = None
) -> tuple[dict[int, Tensor], Cache]:
    """The last token's state leaving these blocks, [1, width], and the cache of the prompt.

    `shifts` are vectors that are added behind their blocks at every token.
    """
    inputs, kept = vlm.encode([prompt]).model_inputs(), dict[int, Tensor]()
    cache = DynamicCache(config=vlm.model.config.get_text_config(decoder=True))

    def read(layer: int) -> Any:
        return lambda module, args, output: kept.update({layer: output[:, -1].clone()})

    with torch.no_grad(), ExitStack() as hooks:
        _install(hooks, vlm, shifts or {})
        for layer in layers:
            hooks.enter_context(hooked(block(vlm, layer), read(layer)))
        vlm.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return kept, cache


def reply(
    vlm: VLM, prompt: Prompt, cache: Cache, shifts: Mapping[int, Tensor], tokens: int
) -> tuple[list[int], list[Tensor]]:
    """Greedy tokens and their logits, [1, vocabulary] each: the last prompt token runs again, all with the vectors."""
    encoded = vlm.encode([prompt])
    cache.crop(-1)  # type: ignore[attr-defined]
    token, position, mask = encoded.input_ids[:, -1:], encoded.position_ids[..., -1:], encoded.attention_mask
    ids, logits = [], []
    with torch.no_grad(), ExitStack() as hooks:
        _install(hooks, vlm, shifts)
        for _ in range(tokens):
            inputs = {"input_ids": token, "position_ids": position, "attention_mask": mask}
            logits.append(vlm.model(**inputs, past_key_values=cache, use_cache=True).logits[:, -1].float())
            token, position = logits[-1].argmax(dim=-1, keepdim=True), position + 1
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            ids.append(int(token))
    return ids, logits


def predicted(network: Weights, context: Tensor) -> Tensor:
    """The contrast vector of an L2S network with tanh, in float32."""
    hidden = torch.tanh(context.float() @ network.encoder_weight.T + network.encoder_bias)
    return hidden @ network.decoder_weight.T


def block(vlm: VLM, layer: int) -> nn.Module:
    return vlm.model.get_submodule(f"{vlm.layout.blocks}.{layer}")


def _install(hooks: ExitStack, vlm: VLM, shifts: Mapping[int, Tensor]) -> None:
    for layer, shift in shifts.items():
        hooks.enter_context(
            hooked(block(vlm, layer), lambda module, args, output, shift=shift: output + shift.to(output)[:, None])
        )
