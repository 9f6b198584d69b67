"""One block's attention in one forward: scores and weights worked out again, as eager does, where they are asked for.

Everything else is the base's own output, bit by bit: the edited entries alone are put into it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.integrations.sdpa_attention import repeat_kv

from interv.ops.attention_edits import AttentionEdit, Edited, repeated
from interv.ops.op import Capture, Op
from interv.places.columns import from_block
from interv.places.scope import Step
from interv.places.site import ROTATED, SCORES, WEIGHTS

# By hook, what stands where a token attends to nothing.
HIDDEN = {SCORES: -torch.inf, WEIGHTS: 0.0}


@dataclass(frozen=True, eq=False)
class Act:
    """One op in this forward, and what is told of it.

    Attributes:
        read: given what a capture reads, [batch, query, ...], where [batch, query], and the step of these queries.
        done: given what an edit did.
    """

    op: Op
    step: Step
    read: Callable[[Tensor, Tensor, Step], None]
    done: Callable[[Edited], None]


@dataclass(frozen=True, eq=False)
class Heads:
    """What an attention function is given: keys and values of all columns, fewer of their heads than of the queries."""

    query: Float[Tensor, "batch head query width"]
    key: Float[Tensor, "batch key_head column width"]
    value: Float[Tensor, "batch key_head column value_width"]
    mask: Tensor | None
    scaling: float
    groups: int
    causal: bool

    def only(self, index: Int[Tensor, " query"]) -> "Heads":
        """The queries at these positions; their mask goes with them."""
        allowed = self.mask
        if allowed is None and self.causal and self.query.shape[2] > 1:
            column = torch.arange(self.key.shape[2], device=self.key.device)
            allowed = column[None] <= torch.arange(self.query.shape[2], device=self.key.device)[:, None]
        mask = None if allowed is None else allowed[..., index, :]
        return replace(self, query=self.query[:, :, index], mask=mask)

    def scores(self) -> Float[Tensor, "batch head query column"]:
        """Before the mask, in the model's precision."""
        return torch.matmul(self.query, repeat_kv(self.key, self.groups).transpose(2, 3)).mul_(self.scaling)

    def hidden(self, scores: Tensor) -> Tensor:
        """The scores, with what the mask hides at minus infinity."""
        if self.mask is None:
            return scores
        hides = ~self.mask if self.mask.dtype == torch.bool else self.mask <= torch.finfo(self.mask.dtype).min
        return scores.masked_fill(hides, -torch.inf)

    def weights(self, scores: Tensor) -> Tensor:
        """Behind mask and softmax, which is taken in float32."""
        mask = self.mask
        if mask is not None and mask.dtype == torch.bool:
            none = torch.zeros((), dtype=scores.dtype, device=scores.device)
            mask = torch.where(mask, none, torch.finfo(scores.dtype).min)
        scores = scores if mask is None else scores + mask
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)

    def output(self, weights: Tensor) -> Float[Tensor, "batch query head value_width"]:
        return torch.matmul(weights, repeat_kv(self.value, self.groups)).transpose(1, 2)


def acted(acts: Sequence[Act], heads: Heads, output: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The base's output and weights, with those entries new that the edits change."""
    asked = []
    for act in acts:
        where = repeated(act.step.where(act.op.scope), len(heads.query)).to(heads.query.device)
        if act.op.site.hook in ROTATED:
            act.read(_rotated(act, heads), where, act.step)
        else:
            asked.append((act, where))
    if not asked:
        return output, weights
    index = _queries(asked)
    part = _Part(heads, asked) if index is None else _Part.of(heads, asked, index)
    scores = part.through(SCORES, part.heads.scores())
    new = part.through(WEIGHTS, part.heads.weights(scores))
    if part.entries is None:
        return output, weights
    entries = part.entries.transpose(1, 2)
    if index is None:
        weights = weights if weights is None else torch.where(part.entries, new, weights)
        return torch.where(entries, part.heads.output(new), output), weights
    changed = torch.where(entries, part.heads.output(new), output[:, index])
    if weights is not None:
        weights = weights.index_copy(2, index, torch.where(part.entries, new, weights[:, :, index]))
    return output.index_copy(1, index, changed), weights


class _Part:
    """The queries that are asked for, and the entries among them that edits have changed so far."""

    def __init__(self, heads: Heads, asked: list[tuple[Act, Tensor]]) -> None:
        self.heads = heads
        self.entries: Tensor | None = None
        self._asked = asked

    @classmethod
    def of(cls, heads: Heads, asked: list[tuple[Act, Tensor]], index: Tensor) -> "_Part":
        there = [(replace(act, step=act.step.only(index)), where[:, index]) for act, where in asked]
        return cls(heads.only(index), there)

    def through(self, hook: str, values: Tensor) -> Tensor:
        """The values at the hook, after what its ops do there in the order of the list."""
        for act, where in self._asked:
            if act.op.site.hook != hook:
                continue
            if isinstance(act.op, Capture):
                shown = self.heads.hidden(values) if hook == SCORES else values
                if act.step.columns is not None:  # all so far, also where the block attends to the newest alone
                    shown = from_block(shown, act.step.columns.seen, HIDDEN[hook])
                act.read(_by_query(act.op, shown), where, act.step)
                continue
            edited = _edited(act, where, values)
            act.done(edited)
            self.entries = edited.entries if self.entries is None else self.entries | edited.entries
            values = edited.values
        return values


def _edited(act: Act, where: Tensor, values: Tensor) -> Edited:
    """An edit of the kinds of columns, or any other, which is given its tokens' scores or weights as a hidden state."""
    op, head = act.op, act.op.site.head
    if isinstance(op, AttentionEdit):
        return op.edited(values, where, act.step)
    assert not isinstance(op, Capture)
    reached = where[:, None, :, None]
    new = op(_by_query(op, values), where, act.step)
    if head is None:
        new = new.transpose(1, 2)
    else:
        new = torch.cat([values[:, :head], new[:, None], values[:, head + 1 :]], dim=1)
    # A function may leave most as it was, and what it left keeps the base's bits.
    return Edited(torch.where(reached, new, values), reached & (new != values).any(-1, keepdim=True), reached)


def _rotated(act: Act, heads: Heads) -> Tensor:
    """The queries, or the keys of this forward's own tokens, heads side by side."""
    queries = heads.query.shape[2]
    values = heads.query
    if act.op.site.hook == "attn.hook_rot_k":
        end = heads.key.shape[2] if act.step.columns is None else min(heads.key.shape[2], act.step.columns.seen)
        values = heads.key[:, :, end - queries : end]
    by_query = _by_query(act.op, values)
    return by_query if act.op.site.head is not None else by_query.flatten(2)


def _queries(asked: list[tuple[Act, Tensor]]) -> Int[Tensor, " query"] | None:
    """The queries that some op asks for: of a prompt nearly always the last alone. None where there is just one."""
    where = asked[0][1]
    if where.shape[1] == 1:
        return None
    whole = any(act.op.scope == "all" and not isinstance(act.op, Capture | AttentionEdit) for act, _ in asked)
    if whole:
        return torch.arange(where.shape[1], device=where.device)
    return torch.stack([where for _, where in asked]).flatten(0, 1).any(0).nonzero().flatten()


def _by_query(op: Op, values: Tensor) -> Tensor:
    """[batch, query, head, ...], or without heads where the site is a single one."""
    head = op.site.head
    return values.transpose(1, 2) if head is None else values[:, head]
