"""Inside attention: a function of our own in the place of sdpa or eager, which reads and edits scores and weights.

Source: transformers' AttentionInterface. It knows one table of names a process, from which none is taken out again, and
a name without a mask maker of its own attends to everything. So each base has a name of ours, registered here once with
the base's own mask maker, and a model has that name only while something is to be read or edited.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from threading import Lock, get_ident
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from interv.attention.recompute import Act, Heads, acted
from interv.models.compiled import as_written

Ask = Callable[[int], list[Act]]  # how often the block ran before -> what is to be done in it now

_NAME = "_interv_asks"  # of the attribute by which a module hands its asks to the function
_OURS = {"sdpa": "interv_sdpa", "eager": "interv_eager"}
_LOCK = Lock()


@contextmanager
def attending(model: nn.Module, asks: Mapping[str, Ask]) -> Iterator[None]:
    """Let these modules, by path, do what they are asked in the calls of this thread.

    On exit, also after an error, the model is as it was. Contexts may be nested and may end in any order: the edits of
    all that are open act together.
    """
    entries = [(model.get_submodule(path), _counted(ask)) for path, ask in asks.items()]
    configs = _configs(model, [module for module, _ in entries])
    try:
        with _LOCK:
            for config in configs:
                config._attn_implementation = _OURS.get(config._attn_implementation, config._attn_implementation)
            for module, ask in entries:
                module.__dict__.setdefault(_NAME, []).append(ask)
        with as_written(model, asks) if asks else nullcontext():
            yield
    finally:
        with _LOCK:
            for module, ask in entries:
                module.__dict__[_NAME].remove(ask)
                if not module.__dict__[_NAME]:
                    del module.__dict__[_NAME]
            if entries and not any(_NAME in module.__dict__ for module in model.modules()):
                for config in configs:
                    config._attn_implementation = base_of(config._attn_implementation)


def base_of(implementation: str | None) -> str | None:
    """The model's own attention implementation, also while ours stands in its place."""
    return next((base for base, name in _OURS.items() if name == implementation), implementation)


def check_implementation(module: nn.Module) -> None:
    """Raise ValueError where the module's attention is not a function that can be reached."""
    config: Any = getattr(module, "config", None)
    name = base_of(getattr(config, "_attn_implementation", None))
    if name not in _OURS:
        raise ValueError(
            f"Scores and weights are out of reach in attn_implementation={name!r}; they can be read and edited in "
            f"{' and '.join(map(repr, _OURS))}. Load the model with attn_implementation='sdpa'."
        )


def _configs(model: nn.Module, modules: list[nn.Module]) -> list[Any]:
    """The text model's configuration, which its blocks and its masks look the name up in; one object or several."""
    found: list[Any] = [module.config for module in modules]
    top: Any = getattr(model, "config", None)
    if found and top is not None:
        found.append(top.get_text_config())
    return list({id(config): config for config in found}.values())


def _sdpa(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    return _attend(sdpa_attention_forward, module, *args, **kwargs)


def _eager(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """Around the family's own eager function, which stands beside its attention modules."""
    return _attend(sys.modules[type(module).__module__].eager_attention_forward, module, *args, **kwargs)


def _attend(
    base: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The base's output, with what the module's asks change in it."""
    output, weights = base(module, query, key, value, attention_mask, **kwargs)
    acts = [act for ask in module.__dict__.get(_NAME, ()) for act in ask()]
    if not acts:
        return output, weights
    for name in ("softcap", "position_bias", "s_aux"):
        if kwargs.get(name) is not None:
            raise ValueError(f"This model's attention has a {name}, with which scores are not worked out here.")
    if kwargs.get("dropout"):
        raise ValueError("This model drops attention weights at random; call model.eval().")
    causal = kwargs.get("is_causal")
    heads = Heads(
        query,
        key,
        value,
        attention_mask,
        kwargs["scaling"],
        getattr(module, "num_key_value_groups", 1),
        getattr(module, "is_causal", True) if causal is None else causal,
    )
    return acted(acts, heads, output, weights)


def _counted(ask: Ask) -> Callable[[], list[Act]]:
    """The ask with its own count, for the calls of this thread alone."""
    counts, thread = itertools.count(), get_ident()
    return lambda: ask(next(counts)) if get_ident() == thread else []


for _base, _function, _mask in (("sdpa", _sdpa, sdpa_mask), ("eager", _eager, eager_mask)):
    AttentionInterface.register(_OURS[_base], _function)
    AttentionMaskInterface.register(_OURS[_base], _mask)
