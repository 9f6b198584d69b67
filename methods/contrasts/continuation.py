"""Let the model finish a forced answer by itself, and put what it said behind the prompt."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from interv import VLM
from interv.prompts.encoding import Encoded


def spoken(vlm: VLM, encoded: Encoded, tokens: int, seed: int | None) -> list[list[int]]:
    """The tokens of each row's own continuation that the model is fed back: all but the last, at most `tokens`.

    Greedy without a seed, else sampled by the checkpoint's generation settings.
    """
    if tokens < 1:
        return [[] for _ in range(len(encoded))]
    sampling = {} if seed is None else {"do_sample": True, "seed": seed}
    replies = vlm.generate(vlm.prefill(encoded), max_new_tokens=tokens + 1, **sampling)  # type: ignore[arg-type]
    return [ids[:-1] for ids in replies.token_ids]


def continued(encoded: Encoded, extra: Sequence[Sequence[int]], pad_token_id: int) -> Encoded:
    """The prompts with `extra[row]` behind them, padded on the left again; text only, so positions count on by one."""
    device = encoded.input_ids.device
    counts = torch.tensor([len(ids) for ids in extra], device=device)
    longest = int(counts.max())
    if longest == 0:
        return encoded
    tail = torch.tensor([[*ids, *[pad_token_id] * (longest - len(ids))] for ids in extra], device=device)
    # Behind a short continuation there is room on the right; every row moves over by as much.
    index = torch.arange(encoded.input_ids.shape[1] + longest, device=device)[None] - (longest - counts)[:, None]

    def grown(values: Tensor, tail: Tensor, fill: int) -> Tensor:
        whole = torch.cat([values, tail.to(values.dtype).expand(*values.shape[:-1], longest)], dim=-1)
        moved = whole.gather(-1, index.clamp_min(0).expand(whole.shape))
        return torch.where(index >= 0, moved, torch.as_tensor(fill, dtype=values.dtype, device=device))

    none = torch.zeros_like(tail)
    steps = torch.arange(1, longest + 1, device=device)
    return replace(
        encoded,
        input_ids=grown(encoded.input_ids, tail, pad_token_id),
        attention_mask=grown(encoded.attention_mask, none + 1, 0),
        position_ids=grown(encoded.position_ids, encoded.position_ids[..., -1:] + steps, 0),
        image_mask=grown(encoded.image_mask, none, 0),
        per_token={name: grown(values, none, 0) for name, values in encoded.per_token.items()},
    )
