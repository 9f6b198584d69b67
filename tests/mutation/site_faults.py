"""Faults in where heads, norms' insides and names are, and in what functions are given and may give back."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import interv.named
import interv.ops.apply
import interv.places.parts
import interv.running.checks
import interv.running.plan
from interv.ops.apply import Apply, Here
from interv.ops.op import WholeBatch
from interv.places.layouts import Layout
from interv.places.parts import NormPassing, Part, Passing, ResultPassing
from interv.places.site import Site
from tests.mutation.faults import around, fault

HEAD = "2 a head changes alone"
INSIDE = "2 inside norms and attention"
HOOK = "11 capture equals a hook"
CACHE = "11 a cache equals plain hooks"
GIVEN = "7 a function is given the scope's tokens"


@fault("heads interleaved instead of side by side", HEAD, HOOK)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(get: Any, passing: Passing, part: Part) -> Tensor:
        if part.kind != "columns":
            return get(passing, part)
        heads = passing.value.shape[-1] // part.width
        return passing.value[..., part.start // part.width :: heads]

    around(patch, Passing, "get", wrong)


@fault("the neighbouring head changed too", HEAD, "5 one's own function and single heads equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(set_: Any, passing: Passing, part: Part, new: Tensor) -> None:
        set_(passing, part, new)
        if part.kind == "columns":
            other = 0 if part.start else part.width
            set_(passing, replace(part, start=other), new)

    around(patch, Passing, "set", wrong)


@fault("the next head read", HOOK)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(get: Any, passing: Passing, part: Part) -> Tensor:
        if part.kind == "columns":
            part = replace(part, start=(part.start + part.width) % passing.value.shape[-1])
        return get(passing, part)

    around(patch, Passing, "get", wrong)


@fault("key-value heads counted like query heads", "10 a wrong op is refused")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(heads_of: Any, layout: Layout, site: Site) -> int | None:
        return heads_of(layout, replace(site, hook="hook_q") if site.hook.startswith("attn.") else site)

    around(patch, Layout, "heads_of", wrong)


@fault("queries taken for keys where one module puts out both (Qwen2-VL)", HOOK)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(part_of: Any, site: Site, layout: Layout, model: Any) -> Part:
        fused = site.tower == "vision" and site.hook == "attn.hook_k" and layout.vision_block.fused
        return part_of(replace(site, hook="hook_q") if fused else site, layout, model)

    around(patch, interv.running.plan, "part_of", wrong)


@fault("heads taken behind the output projection", HOOK, CACHE)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(locate: Any, layout: Layout, site: Site) -> Any:
        return locate(layout, replace(site, hook="hook_attn_out", head=None) if site.hook == "attn.hook_z" else site)

    around(patch, Layout, "locate", wrong)


@fault("layers from the end off by one", HOOK, CACHE)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(number_of: Any, layout: Layout, site: Site) -> int | None:
        number = number_of(layout, site)
        return (
            max(0, number - 1) if site.layer is not None and site.layer < 0 and site.hook != "attn.hook_k" else number
        )

    around(patch, Layout, "number_of", wrong)


@fault("a norm read behind its weight", INSIDE)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(get: Any, passing: NormPassing, part: Part) -> Tensor:
        return get(passing, part) * (passing._weight if part.kind == "normalized" else 1.0)

    around(patch, NormPassing, "get", wrong)


@fault("a norm's denominator without its root", INSIDE)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(start: Any, passing: NormPassing, *args: Any) -> None:
        start(passing, *args)
        passing._scale = passing._scale**2

    around(patch, NormPassing, "__init__", wrong)


@fault("a head's share by its neighbour's weights", INSIDE)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(start: Any, passing: ResultPassing, *args: Any) -> None:
        start(passing, *args)
        passing._weights = passing._weights[1:] + passing._weights[:1]

    around(patch, ResultPassing, "__init__", wrong)


@fault("a module's output changed before its inside", "3 causes come before effects")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Part, "rank", property(lambda part: 0))


@fault("a function given all tokens instead of the scope's", GIVEN)
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Apply, "__call__", lambda call, op, *args: call(replace(op, every=True), *args))


@fault("what a function gives back kept outside the scope", "2 a function changes its scope alone")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(call: Any, op: Apply, hidden: Tensor, where: Any, step: Any = None) -> Tensor:
        return call(op, hidden, None if op.every else where, step)

    around(patch, Apply, "__call__", wrong)


@fault("a function told of row 0 in every row", GIVEN, "4 a row of a function equals its prompt alone")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.ops.apply, "Here", lambda site, row, *rest: Here(site, 0, *rest))


@fault("a function told of the step before", GIVEN)
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.ops.apply, "Here", lambda site, row, step, *rest: Here(site, row, max(0, step - 1), *rest))


@fault("a function's change of precision let through", "10 a wrong result is refused")
def _(patch: pytest.MonkeyPatch) -> None:
    for module in (interv.ops.apply, interv.named):
        patch.setattr(module, "checked", lambda op, new, given: new.to(given) if isinstance(new, Tensor) else new)


@fault("a cache padded on the right", CACHE)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(read: Any, op: Any, hidden: Tensor, where: Tensor | None, step: Any) -> Any:
        if not isinstance(op, WholeBatch) or where is None:
            return read(op, hidden, where, step)
        return torch.nn.utils.rnn.pad_sequence([row[of] for row, of in zip(hidden, where, strict=True)], True)

    around(patch, interv.running.plan, "read", wrong)


@fault("a cache with the heads' columns mixed", CACHE)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(by_head: Any, hidden: Tensor, heads: int | None) -> Tensor:
        return hidden if heads is None else hidden.unflatten(-1, (-1, heads)).transpose(-1, -2)

    around(patch, interv.named, "by_head", wrong)


@fault("what a function does in place is lost", "6 functions at names are ops")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(call: Any, op: interv.named.Hooked, hidden: Tensor, *rest: Any) -> Tensor:
        def function(value: Tensor, hook: Any) -> Tensor:
            new = op.function(value.clone(), hook)
            return value if new is None else new

        return call(replace(op, function=function), hidden, *rest)

    around(patch, interv.named.Hooked, "__call__", wrong)
