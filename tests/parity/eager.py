"""A plain forward of one unpadded row, attention written out as eager does it, with an edit of scores or weights.

Nothing here uses the package's ops, columns, scopes, prefill or cache: every step is one full pass.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interv import VLM
from tests.property.cases import Ask
from tests.property.reference import own_inputs

# (block, scores or weights [1, heads, query, column], image columns [column], first query of the reply) -> the same
Edit = Callable[[int, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Now:
    """The pass that runs: which of its columns are image tokens, and the last prompt token's place."""

    image: Tensor
    last: int


@contextmanager
def eager(vlm: VLM, now: Callable[[], Now], scores: Edit | None = None, weights: Edit | None = None) -> Iterator[None]:
    """The text model's attention by hand, in place of its family's eager function."""
    text = vlm.model.model.language_model
    family = sys.modules[type(text.layers[0].self_attn).__module__]
    config, before, own = text.config, text.config._attn_implementation, family.eager_attention_forward

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        if not hasattr(module, "layer_idx"):
            return own(module, query, key, value, mask, scaling, **_)
        groups = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
        s = query @ key.mT * scaling
        if scores is not None:
            s = scores(module.layer_idx, s, now().image, now().last)
        size = s.shape[-1]
        s = s.masked_fill(torch.ones(size, size).triu(1).bool(), torch.finfo(s.dtype).min)
        a = s.float().softmax(dim=-1).to(s.dtype)
        if weights is not None:
            a = weights(module.layer_idx, a, now().image, now().last)
        return (a @ value).transpose(1, 2), None

    family.eager_attention_forward = attend
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        family.eager_attention_forward, config._attn_implementation = own, before


def passed(vlm: VLM, ask: Ask, reply: Sequence[int] = (), **inputs: Any) -> Tensor:
    """The logits behind prompt and reply, [vocabulary], of a full pass without a cache; `inputs` take the place."""
    given = own_inputs(vlm, [ask]) | inputs
    added = torch.tensor([list(reply)], dtype=torch.long)
    ids = torch.cat([given["input_ids"], added], dim=1)
    given |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in {"mm_token_type_ids", "token_type_ids"} & given.keys():
        given[name] = torch.cat([given[name], torch.zeros_like(added)], dim=1)
    with torch.no_grad():
        return vlm.model(**given, use_cache=False).logits[0, -1]


def edited_reply(
    vlm: VLM, ask: Ask, steps: int, scores: Edit | None = None, weights: Edit | None = None
) -> tuple[list[int], Tensor]:
    """The greedy reply and its logits [steps, vocabulary]; every query from the last prompt token on is edited."""
    ids = own_inputs(vlm, [ask])["input_ids"][0]
    reply: list[int] = []
    found = []

    def now() -> Now:
        image = torch.cat([ids == vlm.model.config.image_token_id, torch.zeros(len(reply), dtype=torch.bool)])
        return Now(image, len(ids) - 1)

    with eager(vlm, now, scores, weights):
        for _ in range(steps):
            found.append(passed(vlm, ask, reply))
            reply.append(int(found[-1].argmax()))
    return reply, torch.stack(found)
