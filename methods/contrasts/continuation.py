"""Let the model finish a forced answer by itself, and put what it said behind the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM
from interv.prompts.encoding import Encoded
from interv.running.prefill import Prefill, sees_all

Generated = tuple[int, int | None]  # how many tokens at most, and the seed that samples them; greedy without


@dataclass(frozen=True, eq=False)
class Trunk:
    """What the prompts of a batch of pairs have in common, run once.

    Attributes:
        prefill: or a prefix, behind which nothing can be said.
        places: for each pair the row of the prefill that its prompts follow.
        lengths: how many tokens each pair has there.
    """

    prefill: Prefill
    places: list[int]
    lengths: list[int]

    @classmethod
    def of(cls, vlm: VLM, asked: Encoded, roots: list[int], lengths: list[int], blocks: int, talking: bool) -> "Trunk":
        """Of pairs whose prompts `asked` are, of which those of one root share its row.

        It has what `blocks` decoder blocks need, or all where the model is `talking` behind it.
        """
        own = sorted(set(roots))
        if len(own) < len(roots):
            asked = replace(asked.select(own), media=asked.images_of(own))
        head = asked.head([lengths[root] for root in own], vlm.pad_token_id)
        whole = talking and sees_all(vlm.model.config)
        return cls(vlm.prefill(head) if whole else vlm.prefix(head, blocks), list(map(own.index, roots)), lengths)

    def behind(self, vlm: VLM, encoded: Encoded, rows: Sequence[int], tokens: int) -> Prefill | None:
        """These rows of one variant of the pairs, to reply from; None where nothing can be said behind the trunk."""
        if self.prefill.blocks is not None:
            return None
        tail = encoded.select(rows).tail([self.lengths[row] for row in rows], vlm.pad_token_id)
        return vlm.follow(self.prefill, [self.places[row] for row in rows], tail, tokens)


def spoken(
    vlm: VLM, encoded: Encoded, rows: Sequence[int], generated: Generated, trunk: Trunk | None
) -> list[list[int]]:
    """For each prompt the tokens of its continuation that the model is fed back: all but the last, at most so many.

    Nothing for prompts that are not among the `rows`.
    """
    tokens, seed = generated
    said: list[list[int]] = [[] for _ in range(len(encoded))]
    if tokens < 1:
        return said
    sampling = {} if seed is None else {"do_sample": True, "seed": seed}
    behind = None if trunk is None else trunk.behind(vlm, encoded, rows, tokens + 1)
    places = list(rows) if behind is not None else list(range(len(encoded)))
    replies = vlm.generate(behind or vlm.prefill(encoded), max_new_tokens=tokens + 1, **sampling)  # type: ignore[arg-type]
    for row, ids in zip(places, replies.token_ids, strict=True):
        said[row] = ids[:-1] if row in rows else []
    return said


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


def counted_on(
    weights: Float[Tensor, "pairs seq"], extra: Sequence[Sequence[int]], rows: Sequence[int], width: int
) -> Float[Tensor, "pairs longer"]:
    """What each token counts once `extra` is there: in these rows all that is said as much as what was forced.

    Raises ValueError where a row has neither.
    """
    longer = weights.new_zeros(len(weights), width)
    longer[:, width - weights.shape[1] :] = weights
    for row in rows:
        count = int((weights[row] != 0).sum()) + len(extra[row])
        if count == 0:
            raise ValueError("The model says nothing behind a prompt without a forced answer; use pool='last'.")
        longer[row] = 0
        longer[row, -count:] = 1 / count
    return longer
