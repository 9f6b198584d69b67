"""Law 2 where no module is given the hidden state or puts it out: norms before their weight, and each head's share.

The reference is the definition, written out on what plain hooks see of the module.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from interv import VLM, Add, Capture, Scale, Site
from tests.property.cases import Ask, Case
from tests.property.places import BEFORE_MLP, BLOCKS, NORM_OFFSET, VISION
from tests.property.reference import bitwise, close, hooked, own_inputs

CASE = Case((Ask("what is it?", ((56, 56),), 1), Ask("hm", ((28, 28),), 2)), ())


@dataclass(frozen=True)
class Inside:
    """A site, its module, what it is of the module's input, and what the module puts out when it is changed."""

    site: Site
    path: str
    value: Callable[[nn.Module, Tensor], Tensor]
    output: Callable[[nn.Module, Tensor, Tensor], Tensor]  # (module, its input, the changed value)


def spread(module: nn.Module, given: Tensor) -> tuple[Tensor, Tensor]:
    """What a norm divides, and by what."""
    centred = given - given.mean(-1, keepdim=True) if isinstance(module, nn.LayerNorm) else given
    epsilon = getattr(module, "variance_epsilon", None) or module.eps
    return centred, (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()


def weighted(module: nn.Module, normalized: Tensor) -> Tensor:
    bias = getattr(module, "bias", None)
    return normalized * weight_of(module) + (0.0 if bias is None else bias)


def weight_of(norm: nn.Module) -> Tensor:
    return norm.weight.detach() + (0.0 if isinstance(norm, nn.LayerNorm) else NORM_OFFSET)


def of_norm(site: Site, path: str) -> Inside:
    if site.hook.endswith("scale"):
        return Inside(
            site,
            path,
            lambda module, given: spread(module, given)[1],
            lambda module, given, scale: weighted(module, spread(module, given)[0] / scale),
        )
    return Inside(
        site,
        path,
        lambda module, given: spread(module, given)[0] / spread(module, given)[1],
        lambda module, given, normalized: weighted(module, normalized),
    )


def of_result(vlm: VLM, layer: int, head: int) -> Inside:
    size = vlm.model.get_submodule(f"{BLOCKS}.{layer}.self_attn.o_proj").in_features // _heads(vlm)
    own = slice(head * size, (head + 1) * size)

    def share(module: nn.Module, given: Tensor) -> Tensor:
        return given[..., own] @ module.weight[:, own].T

    def output(module: nn.Module, given: Tensor, result: Tensor) -> Tensor:
        return given @ module.weight.T - share(module, given) + result

    site = Site(layer, "hook_result", head=head)
    return Inside(site, f"{BLOCKS}.{layer}.self_attn.o_proj", share, output)


def _heads(vlm: VLM) -> int:
    return vlm.model.config.get_text_config().num_attention_heads


def insides(vlm: VLM) -> list[Inside]:
    norm = BLOCKS.rpartition(".")[0] + ".norm"
    block = VISION[vlm.model.config.model_type][0]
    named = dict(vlm.model.get_submodule(block).named_children())
    vision = f"{block}.{next(name for name in ('layer_norm2', 'norm2', 'layernorm_after') if name in named)}"
    return [
        *(of_norm(Site(0, f"ln1.hook_{kind}"), f"{BLOCKS}.0.input_layernorm") for kind in ("scale", "normalized")),
        *(of_norm(Site(1, f"ln2.{kind}"), f"{BLOCKS}.1.{BEFORE_MLP}") for kind in ("hook_scale",)),
        *(of_norm(Site.parse(f"ln_final.hook_{kind}"), norm) for kind in ("scale", "normalized")),
        *(of_norm(Site(0, f"ln2.hook_{kind}", tower="vision"), vision) for kind in ("scale", "normalized")),
        *(of_result(vlm, layer, head) for layer, head in ((0, 1), (1, _heads(vlm) - 1))),
    ]


def passed(vlm: VLM, inside: Inside, ops: list) -> tuple[Tensor, Tensor]:
    """What the module is given and puts out under the ops, by hooks behind theirs."""
    given: list[Tensor] = []
    put_out: list[Tensor] = []
    watch = hooked(vlm, inside.path, "input", lambda hidden: given.append(hidden.clone()))
    after = hooked(vlm, inside.path, "output", lambda value: put_out.append(value.clone()))
    with vlm.installed(ops), watch, after, torch.no_grad():
        vlm.model(**own_inputs(vlm, CASE.asks))
    return given[0], put_out[0]


@contextmanager
def weighing(module: nn.Module) -> Iterator[None]:
    """A norm's weights all different for a while: those of a model that is not trained are ones."""
    weight = module.weight.data
    if weight.ndim == 1:
        module.weight.data = torch.linspace(0.5, 1.5, len(weight), dtype=weight.dtype)
    try:
        yield
    finally:
        module.weight.data = weight


def check_inside_is_read_and_changed(vlm: VLM) -> None:
    for inside in insides(vlm):
        with weighing(vlm.model.get_submodule(inside.path)):
            _check_inside(vlm, inside)


def _check_inside(vlm: VLM, inside: Inside) -> None:
    tokens = vlm.layout.sees_tokens(inside.site)
    scope, module = "response" if tokens else "all", vlm.model.get_submodule(inside.path)
    capture = Capture(inside.site, "all")
    given, plain = passed(vlm, inside, [capture])
    with torch.no_grad():
        value = inside.value(module, given)
        vector = torch.linspace(0.5, 1.5, value.shape[-1])
        read = vlm.capture(CASE.prompts(), [inside.site], "all")[inside.site]
        for row, own in enumerate(read) if tokens else ():
            close(own, value[row, -len(own) :])
        if not tokens:
            close(read, value)
        bitwise(passed(vlm, inside, [Add(inside.site, vector, scope, 0.0)])[1], plain)
        # Two ops at one site, in the order of the list.
        ops = [Add(inside.site, vector, scope, 0.5), Scale(inside.site, 2.0, scope)]
        _, changed = passed(vlm, inside, ops)
        expected = inside.output(module, given, 2.0 * (value + 0.5 * vector))
    if not tokens:
        close(changed, expected)
        return
    close(changed[:, -1], expected[:, -1])
    bitwise(changed[:, :-1], plain[:, :-1])


def check_causes_come_before_effects(vlm: VLM) -> None:
    """At one module the denominator changes first, whatever the order of the list, and what follows from it follows."""
    scale, normalized, out = (Site(1, f"ln1.hook_{kind}") for kind in ("scale", "normalized", "out"))
    ones = torch.ones(vlm.d_model)
    ops = [Scale(scale, 2.0), Add(normalized, ones), Scale(out, 3.0)]
    captures = [Capture(site) for site in (scale, normalized, out)]
    one, other = (vlm.logits(CASE.prompts(), order) for order in (ops, ops[::-1]))
    bitwise(one, other)
    plain = vlm.generate(CASE.prompts(), captures, max_new_tokens=1).captured
    steered = vlm.generate(CASE.prompts(), [*ops, *captures], max_new_tokens=1).captured
    before, after = ([read[capture] for capture in captures] for read in (plain, steered))
    weight = weight_of(vlm.model.get_submodule(f"{BLOCKS}.1.input_layernorm"))
    close(after[0], 2.0 * before[0])
    close(after[1], before[1] / 2.0 + 1.0)
    close(after[2], 3.0 * weight * (before[1] / 2.0 + 1.0))


def check_the_heads_shares_are_the_output(vlm: VLM) -> None:
    """The results of all heads and the bias are what the output projection gives; one head's is its part of all."""
    whole, out = Site(0, "hook_result"), Site.parse(f"{BLOCKS}.0.self_attn.o_proj")
    read = vlm.capture(CASE.prompts(), [whole, out, Site(0, "hook_result", head=1)])
    shares = read[whole].unflatten(-1, (_heads(vlm), -1))
    close(shares.sum(1), read[out])
    bitwise(shares[:, 1], read[Site(0, "hook_result", head=1)])


@pytest.mark.parametrize(
    "check", [check_inside_is_read_and_changed, check_causes_come_before_effects, check_the_heads_shares_are_the_output]
)
def test_inside_of_modules(vlm: VLM, check: Callable[[VLM], None]) -> None:
    check(vlm)
