"""How a site's hidden state lies in what a module is given or puts out, and how a change of it gets there."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from interv.places.layouts import Layout
from interv.places.site import SCORES, WEIGHTS, Site

Kind = Literal["whole", "columns", "scale", "normalized", "result"]
# What is worked out from the module's input, before what the module puts out as a whole.
DERIVED: tuple[Kind, ...] = ("scale", "normalized", "result")


@dataclass(frozen=True)
class Part:
    """Which part of a module's value a site is.

    Attributes:
        kind: all of it, some of its columns, or what it was made of: a norm's denominator, what a norm gives before its
            weight, or what each head adds to the output of attention.
        width: of the site's hidden state; None where only the module knows.
        start: the first of its columns.
        heads: how many heads lie side by side in it; None for one head, and where there are none.
        head: the head, at "result".
    """

    kind: Kind = "whole"
    width: int | None = None
    start: int = 0
    heads: int | None = None
    head: int | None = None

    @property
    def rank(self) -> int:
        """At one location parts change in this order, whatever the order of the ops: causes before effects."""
        return DERIVED.index(self.kind) if self.kind in DERIVED else len(DERIVED)


def part_of(site: Site, layout: Layout, model: nn.Module) -> Part:
    """The site's part. Raises ValueError where the weights do not tell the heads apart."""
    if site.layer is None:
        name = site.hook.rpartition("_")[2]
        known = site.path is None and site.hook.startswith("ln_final.")
        return _of_norm(name, _width(model, layout.norm)) if known else Part()
    blocks, block, sizes = layout.tower_of(site)
    path = f"{blocks}.{layout.number_of(site)}"
    room, _, hook = site.hook.rpartition(".")
    if room in ("ln1", "ln2"):
        return _of_norm(hook.removeprefix("hook_"), _width(model, f"{path}.{block.ln1}"))
    if room == "mlp":
        return Part(width=_features(model, f"{path}.{block.post}"))
    heads = layout.heads_of(site)
    if room != "attn" or sizes is None or heads is None:
        return Part(width=_width(model, f"{path}.{block.ln1}"))
    if site.hook in (SCORES, WEIGHTS):
        return Part()
    if hook == "hook_result":
        return _of_result(site, model.get_submodule(f"{path}.{block.o}"), sizes.heads)
    width = _features(model, f"{path}.{block.o}") // sizes.heads
    start = ("hook_q", "hook_k", "hook_v").index(hook) * heads * width if block.fused and hook != "hook_z" else 0
    if site.head is not None:
        return Part("columns", width, start + site.head * width)
    return Part("columns" if block.fused and hook != "hook_z" else "whole", heads * width, start, heads)


def _of_norm(name: str, width: int) -> Part:
    if name == "scale":
        return Part("scale", 1)
    return Part("normalized" if name == "normalized" else "whole", width)


def _of_result(site: Site, projection: Any, heads: int) -> Part:
    weight = projection.weight
    if weight.is_meta or not weight.is_floating_point() or weight.ndim != 2:
        raise ValueError(
            f"{site} needs the weights of the output projection as they are, and these are quantised or offloaded; "
            "use hook_z, or load the model in bfloat16 on one device."
        )
    width = len(weight)
    return Part(
        "result",
        width * (1 if site.head is not None else heads),
        0,
        None if site.head is not None else heads,
        site.head,
    )


def _width(model: nn.Module, norm: str) -> int:
    return len(model.get_submodule(norm).weight)  # type: ignore[arg-type]


def _features(model: nn.Module, projection: str) -> int:
    return model.get_submodule(projection).in_features  # type: ignore[return-value]


class Passing:
    """A module's value on its way, as the parts of it are read and changed one after the other."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def get(self, part: Part) -> Tensor:
        if part.kind == "whole":
            return self.value
        assert part.width is not None
        return self.value[..., part.start : part.start + part.width]

    def set(self, part: Part, new: Tensor) -> None:
        """Put a changed part in place. The value is replaced, never edited: captures may alias it."""
        if part.kind == "whole":
            self.value = new
            return
        assert part.width is not None
        self.value = torch.cat([self.value[..., : part.start], new, self.value[..., part.start + part.width :]], dim=-1)


class NormPassing(Passing):
    """What a norm puts out. Its inside is in float32, as norms compute; what is not changed keeps its bits."""

    def __init__(self, value: Tensor, given: Tensor, module: Any, offset: float) -> None:
        super().__init__(value)
        x = given if given.dtype in (torch.float32, torch.float64) else given.float()
        if isinstance(module, nn.LayerNorm):
            x, offset = x - x.mean(-1, keepdim=True), 0.0
        epsilon = getattr(module, "variance_epsilon", None) or module.eps
        variance = x.pow(2).mean(-1, keepdim=True) + epsilon
        self._centred, self._weight = x, module.weight.to(x) + offset
        self._scale, self._normalized = variance.sqrt(), x * variance.rsqrt()

    def get(self, part: Part) -> Tensor:
        inside = {"scale": self._scale, "normalized": self._normalized}
        return inside[part.kind] if part.kind in inside else super().get(part)

    def set(self, part: Part, new: Tensor) -> None:
        if part.kind == "scale":
            normalized = torch.where(new == self._scale, self._normalized, self._centred / new)
            self._scale = new
        elif part.kind == "normalized":
            normalized = new
        else:
            super().set(part, new)
            return
        difference = self._weight * (normalized - self._normalized)
        self.value = (self.value.to(difference) + difference).to(self.value)
        self._normalized = normalized


class ResultPassing(Passing):
    """What attention's output projection puts out: the sum of what each head adds, and the bias."""

    def __init__(self, value: Tensor, given: Tensor, module: Any, heads: int) -> None:
        super().__init__(value)
        self._inputs = given.unflatten(-1, (heads, -1)).unbind(-2)
        self._weights = module.weight.unflatten(-1, (heads, -1)).unbind(-2)
        self._results: dict[int, Tensor] = {}

    def _result(self, head: int) -> Tensor:
        if head not in self._results:
            self._results[head] = nn.functional.linear(self._inputs[head], self._weights[head])
        return self._results[head]

    def get(self, part: Part) -> Tensor:
        if part.kind != "result":
            return super().get(part)
        return torch.cat([self._result(head) for head in self._heads(part)], dim=-1)

    def set(self, part: Part, new: Tensor) -> None:
        if part.kind != "result":
            super().set(part, new)
            return
        heads = self._heads(part)
        for head, result in zip(heads, new.unflatten(-1, (len(heads), -1)).unbind(-2), strict=True):
            self.value = self.value + (result - self._result(head))
            self._results[head] = result

    def _heads(self, part: Part) -> list[int]:
        return [part.head] if part.head is not None else list(range(len(self._inputs)))


def passing(value: Tensor, given: Tensor | None, layout: Layout, model: nn.Module, path: str) -> Passing:
    """The value of the module at the path, whose input is `given` where the parts that are asked for follow from it."""
    if given is None:
        return Passing(value)
    module = model.get_submodule(path)
    decoder = path == layout.norm or path.startswith(f"{layout.blocks}.")
    if isinstance(module, nn.Linear):
        sizes = layout.sizes if decoder else layout.vision_sizes
        assert sizes is not None
        return ResultPassing(value, given, module, sizes.heads)
    return NormPassing(value, given, module, layout.norm_offset if decoder else 0.0)
