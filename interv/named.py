"""Every activation by TransformerLens' name and in its shape, read in one pass or handed to functions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from interv.ops.apply import checked
from interv.ops.op import Edit, WholeBatch
from interv.ops.values import described
from interv.places.layouts import Layout
from interv.places.scope import Scope, Step
from interv.places.site import SCORES, WEIGHTS, Site, as_site
from interv.running.plan import Plan

Predicate = Callable[[str], bool]
Names = Predicate | Sequence[str | Site] | str | Site | None
# Takes heads times as much memory as the residual stream, so it is read where it is named, not where all is asked for.
UNASKED = "attn.hook_result"


class ActivationCache(Mapping[str, Tensor]):
    """Activations by name: `cache["blocks.14.attn.hook_z"]` is [batch, pos, head, d_head].

    Every spelling of a name finds its place, a layer counted from the end too, and TransformerLens' short form
    `cache["z", 14]`. Rows are padded on the left with zeros. In the vision tower there is no batch of prompts: values
    are as the tower has them.

    Attributes:
        mask: True where a token is, False where padding is.
    """

    def __init__(self, tensors: Mapping[str, Tensor], layout: Layout, mask: Bool[Tensor, "batch pos"]) -> None:
        self._tensors, self._layout, self.mask = dict(tensors), layout, mask

    def __getitem__(self, name: str | Site | tuple) -> Tensor:
        if isinstance(name, tuple):
            short, layer, *room = name
            name = ".".join(["blocks", str(layer), *room, f"hook_{short}"])
        key = name_of(as_site(name), self._layout)
        if key not in self._tensors:
            raise KeyError(f"{key} was not read; give its name among names. There are {described(list(self))}.")
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"ActivationCache of {len(self)} activations: {', '.join(list(self)[:4])}, ..."


@dataclass(frozen=True)
class HookPoint:
    """What a hook function is told of its place: TransformerLens' name, and a dict of the run's own."""

    name: str
    site: Site
    ctx: dict[Any, Any] = field(default_factory=dict)

    def layer(self) -> int:
        """The block's number, from 0."""
        if self.site.layer is None:
            raise ValueError(f"{self.name} is in no block.")
        return self.site.layer


HookFunction = Callable[[Tensor, HookPoint], Tensor | None]


@dataclass(frozen=True, eq=False)
class Hooked(Edit):
    """A function of TransformerLens' kind, at all tokens of the prompts and at their padding.

    `function(tensor, hook)` is given the whole batch in TransformerLens' shape and gives a changed tensor of that shape
    back; where it gives None, what it did to the tensor in place is kept. Raises as `Apply` does.
    """

    site: Site
    function: HookFunction
    hook: HookPoint
    heads: int | None
    scope: Scope = "all"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check()

    def __call__(self, hidden: Tensor, where: Bool[Tensor, "batch seq"] | None, step: Step | None = None) -> Tensor:
        state = self._turned(by_head(hidden, self.heads)).clone()  # the function's own, which it may change in place
        new = self.function(state, self.hook)
        return self._turned(checked(self, state if new is None else new, state)).reshape(hidden.shape)

    def _turned(self, state: Tensor) -> Tensor:
        return state.transpose(1, 2) if head_first(self.site) else state


def captures_of(names: Names, layout: Layout, images: bool) -> list[WholeBatch]:
    """The captures of all places whose names are asked for; of those among image patches only where there are images.

    Raises ValueError where there is none.
    """
    sites = sites_of(names, layout, images)
    if not sites:
        raise ValueError(f"No place has a name that is asked for; names are like {name_of(Site(0), layout)}.")
    return [WholeBatch(site) for site in sites]


def hooked(fwd_hooks: Sequence[tuple[Any, HookFunction]], layout: Layout, images: bool) -> list[Hooked]:
    """One op for each pair's places, in the order of the list. Raises ValueError where a pair has none."""
    ops = []
    for names, function in fwd_hooks:
        sites = sites_of(names, layout, images)
        if not sites or not callable(function):
            raise ValueError(f"({described(names)}, {described(function)}) is no hook: it needs a name and a function.")
        for site in sites:
            ops.append(Hooked(site, function, HookPoint(str(site), site), _heads(site, layout)))
    return ops


def sites_of(names: Names, layout: Layout, images: bool) -> list[Site]:
    """The places that are named, or those of whose names a function says yes; None means all but `UNASKED`."""
    if isinstance(names, str | Site):
        names = [names]
    if names is not None and not callable(names):
        return list(dict.fromkeys(resolved(as_site(name), layout) for name in names))
    every = [site for site in layout.sites() if site.hook != UNASKED and (images or layout.sees_tokens(site))]
    return [site for site in every if names is None or names(str(site))]


def resolved(site: Site, layout: Layout) -> Site:
    """The same place, its block counted from 0."""
    return replace(site, layer=layout.number_of(site))


def name_of(site: Site, layout: Layout) -> str:
    return str(resolved(site, layout))


def cache_of(plan: Plan, mask: Tensor) -> ActivationCache:
    """What the plan's captures read of one forward, as tensors."""
    tensors = {}
    for index, op in enumerate(plan.ops):
        if isinstance(op, WholeBatch):
            (read,) = plan.captured[index]
            state = by_head(read, _heads(op.site, plan.layout))
            tensors[str(op.site)] = state.transpose(1, 2) if head_first(op.site) else state
    return ActivationCache(tensors, plan.layout, mask.bool())


def by_head(hidden: Tensor, heads: int | None) -> Tensor:
    return hidden if heads is None else hidden.unflatten(-1, (heads, -1))


def head_first(site: Site) -> bool:
    """Whether TransformerLens' shape is [batch, head, query, column]."""
    return site.hook in (SCORES, WEIGHTS) and site.head is None


def _heads(site: Site, layout: Layout) -> int | None:
    return None if site.head is not None or site.hook in (SCORES, WEIGHTS) else layout.heads_of(site)
