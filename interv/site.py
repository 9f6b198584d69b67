"""A site is a named place in the model where a hidden state can be read or changed."""

import re
from dataclasses import dataclass
from typing import Literal

Side = Literal["input", "output"]

HOOKS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")

# TransformerLens's later spellings of the same places.
_ALIASES = {
    "hook_in": "hook_resid_pre",
    "hook_out": "hook_resid_post",
    "attn.hook_out": "hook_attn_out",
    "mlp.hook_out": "hook_mlp_out",
}


@dataclass(frozen=True)
class Site:
    """A place inside the decoder, or any named module of the model.

    `Site(14)` is the residual stream leaving decoder block 14, counted from 0: entry 15 of Hugging Face's
    `hidden_states`. `Site(14, "hook_mlp_out")` names another place in that block. `Site.parse` reads both forms of
    name, TransformerLens's and plain module paths.
    """

    layer: int | None = None
    hook: str = "hook_resid_post"
    path: str | None = None
    side: Side = "output"

    def __post_init__(self) -> None:
        if (self.layer is None) == (self.path is None):
            raise ValueError(
                "A Site is either a layer, Site(14), or a module path, Site.parse('model.visual.blocks.0')."
            )
        if self.layer is not None and not isinstance(self.layer, int):
            raise TypeError(f"Site({self.layer!r}) is no layer, which is a whole number; Site.parse reads names.")
        if self.layer is not None and self.layer < 0:
            raise ValueError(f"Site({self.layer}) is no layer: decoder blocks count from 0.")
        if self.layer is not None and self.hook not in HOOKS:
            raise ValueError(f"{self.hook!r} is no place in a decoder block; the places are {', '.join(HOOKS)}.")
        if self.layer is not None and self.side != "output":
            raise ValueError("side applies to module paths; in a decoder block the hook's name says the place.")

    @classmethod
    def parse(cls, name: str, side: Side = "output") -> "Site":
        """Read "blocks.14.hook_resid_post" or a module path such as "model.language_model.layers.14.mlp".

        Which module paths exist depends on the model: it checks them when the site is used.
        """
        match = re.fullmatch(r"blocks\.(\d+)\.(\w*\.?hook_\w+)", name)
        if match is None:
            if "hook_" in name:
                raise ValueError(
                    f"{name!r} is no site; TransformerLens names read blocks.<layer>.<{' | '.join(HOOKS)}>."
                )
            return cls(path=name, side=side)
        return cls(int(match[1]), _ALIASES.get(match[2], match[2]), side=side)

    def __str__(self) -> str:
        if self.path is None:
            return f"blocks.{self.layer}.{self.hook}"
        return self.path if self.side == "output" else f"{self.path} (input)"
