"""Faults inside attention."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

import interv.attention.function
import interv.attention.recompute
import interv.places.scope
import interv.running.replies
import interv.running.runner
from interv import AttentionEdit, Boost, Drop
from interv.attention.recompute import Heads
from interv.ops.attention_edits import Edited
from interv.places.columns import Columns, PromptColumns
from interv.places.scope import Step
from tests.mutation.faults import around, fault


@fault("attention's own mask maker not registered", "13 reading changes nothing", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    for name in ("interv_sdpa", "interv_eager"):
        patch.delitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, name)


@fault("scores edited after the mask", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    def masked(scores: Any, heads: Heads) -> Tensor:
        if heads.mask is None:
            return scores(heads)
        return scores(heads) + torch.where(heads.mask, 0.0, torch.finfo(heads.query.dtype).min)

    around(patch, Heads, "scores", masked)
    patch.setattr(Heads, "weights", lambda heads, scores: torch.softmax(scores.float(), -1).to(scores))


@fault("an unpadded prompt attends to what comes later", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Heads, "only", lambda only, heads, index: only(replace(heads, causal=False), index))


@fault("image columns shifted by one", "13 edits equal a pass by hand", "13 boost gives to the image alone")
def _(patch: pytest.MonkeyPatch) -> None:
    init = PromptColumns.__init__
    patch.setattr(PromptColumns, "__init__", lambda self, mask, image: init(self, mask, image.roll(1, 1)))


@fault("row 0's columns for all rows", "13 a row equals its prompt alone", "13 columns are told apart")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(of: Any, columns: Columns, kind: Any, width: int) -> Tensor:
        found = of(columns, kind, width)
        return found[:1].expand(len(found), -1)

    around(patch, Columns, "of", wrong)


@fault("padding counted as text", "13 columns are told apart")
def _(patch: pytest.MonkeyPatch) -> None:
    init = PromptColumns.__init__
    patch.setattr(PromptColumns, "__init__", lambda self, mask, image: init(self, torch.ones_like(mask), image))


@fault("the reply not counted as text", "13 edits equal a pass by hand", "13 columns are told apart")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(of: Any, columns: Columns, kind: Any, width: int) -> Tensor:
        found = of(columns, kind, width).clone()
        found[:, columns.prompt.image.shape[1] :] = False
        return found

    around(patch, Columns, "of", wrong)


@fault("the reply's columns not grown", "13 edits equal a pass by hand", "13 captured while generating")
def _(patch: pytest.MonkeyPatch) -> None:
    init = Columns.__init__
    patch.setattr(Columns, "__init__", lambda self, prompt, seen: init(self, prompt, prompt.image.shape[1]))


@fault("heads tiled, not interleaved", "13 captures equal eager attention", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.attention.recompute, "repeat_kv", lambda states, groups: states.repeat(1, groups, 1, 1))


@fault("the newest query edited for the scope's", "13 edits equal a pass by hand", "13 cache on equals off")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(edited: Any, op: AttentionEdit, values: Tensor, where: Tensor, step: Step) -> Edited:
        newest = where.clone()
        newest[:, :-1] = False
        return edited(op, values, newest, step)

    around(patch, AttentionEdit, "edited", wrong)


@fault("the vision tower attends by our function too", "13 other runs leave attention alone")
def _(patch: pytest.MonkeyPatch) -> None:
    wrong = lambda configs, model, modules: [*configs(model, modules), model.config.vision_config]  # noqa: E731
    around(patch, interv.attention.function, "_configs", wrong)


@fault("dropped weights renormalised", "13 drop takes its columns away", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Drop, "change", lambda change, op, *args: change(replace(op, renormalise=True) if op else op, *args))


@fault("a boost without the score's absolute value", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    wrong = lambda op, values, columns, strength: torch.where(columns, values * (1 + strength), values)  # noqa: E731
    patch.setattr(Boost, "change", wrong)


@fault("a gate summed over the batch", "13 gates decide head by head", "13 gates are counted")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(op: Drop, values: Tensor, columns: Tensor) -> Tensor | None:
        if op.threshold is None:
            return None
        mass = (values * columns).sum(-1, keepdim=True)
        return (mass.sum(0, keepdim=True) >= op.threshold).expand_as(mass)

    patch.setattr(Drop, "fires", wrong)


@fault("a gate counts rows that have ended", "13 gates of ended rows")
def _(patch: pytest.MonkeyPatch) -> None:
    wrong = lambda gate_of, reads, ids, steps: gate_of(reads, [[0] * steps for _ in ids], steps)  # noqa: E731
    around(patch, interv.running.replies, "gate_of", wrong)


@fault(
    "attention not edited at the first token", "13 edits equal a pass by hand", "13 generated leaves the first token"
)
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(interv.places.scope._KINDS, "response", ("generated",))


@fault("the name of our attention left behind", "13 nothing stays")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.attention.function, "base_of", lambda name: name)


@fault("rows of strength 0 worked out again", "13 zero strength changes nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(edited: Any, op: AttentionEdit, *args: Any) -> Edited:
        found = edited(op, *args)
        return replace(found, entries=found.reached.expand_as(found.values[..., :1]))

    around(patch, AttentionEdit, "edited", wrong)


@fault("row 0's strength inside attention", "13 a row equals its prompt alone", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(edited: Any, op: Any, *args: Any) -> Edited:
        return edited(replace(op, strength=float(torch.as_tensor(op.strength).flatten()[0])), *args)

    around(patch, AttentionEdit, "edited", wrong)


@fault("all heads edited", "13 the rest keeps its bits", "13 edits equal a pass by hand")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AttentionEdit, "_heads", lambda op, heads, device: torch.ones(heads, dtype=torch.bool))


@fault("scores worked out in float32", "13 ... in bfloat16")
def _(patch: pytest.MonkeyPatch) -> None:
    wide = lambda heads: replace(heads, query=heads.query.float(), key=heads.key.float())  # noqa: E731
    around(patch, Heads, "scores", lambda scores, heads: scores(wide(heads)))
    around(patch, Heads, "weights", lambda weights, heads, scores: weights(heads, scores).to(heads.query))


@fault("scores read without their mask", "13 captures equal eager attention")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Heads, "hidden", lambda heads, scores: scores)


@fault("only the last context's edits act", "13 contexts act together")
def _(patch: pytest.MonkeyPatch) -> None:
    wrong = lambda acted, acts, *args: acted(acts[-1:], *args)  # noqa: E731
    around(patch, interv.attention.function, "acted", wrong)


@fault("rows without an image go unboosted", "13 columns that no row has are refused")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AttentionEdit, "reaches", lambda op, rows: torch.zeros(len(rows), dtype=torch.bool))
