"""A site is a named place in the model where a hidden state can be read or changed."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

Side = Literal["input", "output"]
Tower = Literal["language", "vision"]

# TransformerLens' names inside a block, in the order in which a block comes by them.
HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "ln1.hook_scale",
    "ln1.hook_normalized",
    "ln1.hook_out",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_rot_q",
    "attn.hook_rot_k",
    "attn.hook_attn_scores",
    "attn.hook_pattern",
    "attn.hook_z",
    "attn.hook_result",
    "ln2.hook_scale",
    "ln2.hook_normalized",
    "ln2.hook_out",
    "mlp.hook_pre",
    "mlp.hook_pre_linear",
    "mlp.hook_post",
)
# Those that no module is given or puts out: they exist inside the attention function alone.
SCORES, WEIGHTS = "attn.hook_attn_scores", "attn.hook_pattern"
ROTATED = ("attn.hook_rot_q", "attn.hook_rot_k")
ATTENTION_HOOKS = (*ROTATED, SCORES, WEIGHTS)
HEADED = tuple(hook for hook in HOOKS if hook.startswith("attn."))
# The names outside the blocks: Site(hook="hook_embed").
MODEL_HOOKS = ("hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized", "ln_final.hook_out", "unembed.hook_out")

# Other spellings of the same places: without the part, as TransformerLens 4 writes its modules, or both.
_ALIASES = {
    **{hook.removeprefix("attn."): hook for hook in HEADED},
    **{hook.removeprefix("mlp."): hook for hook in HOOKS if hook.startswith("mlp.")},
    "hook_in": "hook_resid_pre",
    "ln1.hook_in": "hook_resid_pre",
    "ln2.hook_in": "hook_resid_mid",
    "hook_out": "hook_resid_post",
    "attn.hook_in": "ln1.hook_out",
    "attn.q.hook_in": "ln1.hook_out",
    "attn.k.hook_in": "ln1.hook_out",
    "attn.v.hook_in": "ln1.hook_out",
    "attn.q.hook_out": "attn.hook_q",
    "attn.k.hook_out": "attn.hook_k",
    "attn.v.hook_out": "attn.hook_v",
    "attn.o.hook_in": "attn.hook_z",
    "attn.o.hook_out": "hook_attn_out",
    "attn.hook_out": "hook_attn_out",
    "mlp.hook_in": "ln2.hook_out",
    "mlp.gate.hook_in": "ln2.hook_out",
    "mlp.in.hook_in": "ln2.hook_out",
    "mlp.gate.hook_out": "mlp.hook_pre",
    "mlp.in.hook_out": "mlp.hook_pre_linear",
    "mlp.out.hook_in": "mlp.hook_post",
    "mlp.out.hook_out": "hook_mlp_out",
    "mlp.hook_out": "hook_mlp_out",
}
_MODEL_ALIASES = {
    "embed.hook_out": "hook_embed",
    "unembed": "unembed.hook_out",
    "hook_unembed": "unembed.hook_out",
    "unembed.hook_in": "ln_final.hook_out",
}
# What TransformerLens has and nothing here is, with the place that is nearest to it.
_NEAREST = {
    "hook_attn_in": "hook_resid_pre",
    "hook_q_input": "hook_resid_pre",
    "hook_k_input": "hook_resid_pre",
    "hook_v_input": "hook_resid_pre",
    "hook_mlp_in": "hook_resid_mid",
    "hook_q_normed": "attn.hook_rot_q",
    "hook_k_normed": "attn.hook_rot_k",
    "hook_hidden_states": "hook_attn_out",
}
_BLOCK = re.compile(
    r"(vision_encoder\.)?(?:blocks|(?<=vision_encoder\.)encoder_layers)\.(-?\d+)\.([a-z0-9_.]+)(\[\d+\])?"
)


@dataclass(frozen=True)
class Site:
    """A place inside a block, a named place outside the blocks, or any named module of the model.

    `Site(14)` is the residual stream leaving decoder block 14, counted from 0: entry 15 of Hugging Face's
    `hidden_states`. `Site(-1)` is that of the last block, `Site(14, "hook_mlp_out")` another place in that block and
    `Site(14, "hook_z", head=3)` one head there. `Site.parse` reads all names, TransformerLens' and plain module paths,
    and wherever a site is wanted its name does too.

    Attributes:
        layer: the block, from 0, or from -1 for the last.
        hook: TransformerLens' name of the place, `HOOKS` in a block and `MODEL_HOOKS` outside; every spelling is turned
            into the one that stands there.
        path, side: a module's path and whether its input or its output is meant.
        head: one head of a place in attention, from 0. At `hook_k` and `hook_v` heads are key-value heads.
        tower: "vision" for a block of the vision tower.
    """

    layer: int | None = None
    hook: str = "hook_resid_post"
    path: str | None = None
    side: Side = "output"
    head: int | None = None
    tower: Tower = "language"

    def __post_init__(self) -> None:
        known = _MODEL_ALIASES if self.layer is None else _ALIASES
        object.__setattr__(self, "hook", known.get(self.hook, self.hook))
        named = self.layer is None and self.path is None and self.hook in MODEL_HOOKS
        if not named and (self.layer is None) == (self.path is None):
            raise ValueError(
                "A Site is either a layer, Site(14), or a module path, Site.parse('model.visual.blocks.0'), or one of "
                f"{', '.join(MODEL_HOOKS)}, Site(hook='hook_embed')."
            )
        if self.layer is not None and (not isinstance(self.layer, int) or isinstance(self.layer, bool)):
            raise TypeError(f"Site({self.layer!r}) is no layer, which is a whole number; Site.parse reads names.")
        if self.layer is not None and self.hook not in HOOKS:
            raise ValueError(f"{self.hook!r} is no place in a block; {_what_is(self.hook)}")
        if self.path is None and self.side != "output":
            raise ValueError("side applies to module paths; in a decoder block the hook's name says the place.")
        if self.tower not in ("language", "vision") or (self.tower == "vision" and self.layer is None):
            raise ValueError(f"tower is {self.tower!r}; it is 'language', or 'vision' beside a layer.")
        if self.head is not None:
            self._check_head()

    def _check_head(self) -> None:
        if not isinstance(self.head, int) or isinstance(self.head, bool) or self.head < 0:
            raise ValueError(f"head={self.head!r} is no head, which is a whole number from 0.")
        if self.layer is None or self.hook not in HEADED:
            raise ValueError(f"{self.path or self.hook} has no heads; they are at {', '.join(HEADED)}.")

    @classmethod
    def parse(cls, name: str, side: Side = "output") -> "Site":
        """Read "blocks.14.attn.hook_z", "blocks.14.attn.hook_z[3]" for one head, or a module path.

        TransformerLens' names of version 3 and 4 are read, "vision_encoder.blocks.0.hook_resid_post" for the vision
        tower. Which layers, heads and module paths exist depends on the model: it checks them when the site is used.
        """
        if name == "ln_final.hook_in":
            return cls(-1)
        if side == "output" and _MODEL_ALIASES.get(name, name) in MODEL_HOOKS:
            return cls(hook=name)
        match = _BLOCK.fullmatch(name)
        if match is not None and "hook_" in name:
            vision, layer, hook, head = match.groups()
            number = None if head is None else int(head[1:-1])
            return cls(int(layer), hook, side=side, head=number, tower="vision" if vision else "language")
        if "hook_" in name:
            raise ValueError(
                f"{name!r} is no site; TransformerLens names read blocks.<layer>.<{' | '.join(HOOKS)}>, with "
                f"vision_encoder. before it for the vision tower, or {', '.join(MODEL_HOOKS)}."
            )
        return cls(path=name, side=side)

    def __str__(self) -> str:
        if self.path is not None:
            return self.path if self.side == "output" else f"{self.path} (input)"
        if self.layer is None:
            return self.hook
        tower = "vision_encoder." if self.tower == "vision" else ""
        return f"{tower}blocks.{self.layer}.{self.hook}" + ("" if self.head is None else f"[{self.head}]")


# An op is made of a site or its name and keeps a site: two types for one field, which type checkers cannot be told.
if TYPE_CHECKING:
    SiteLike = Any
else:
    SiteLike = Site | str


def as_site(site: "Site | str") -> Site:
    """A site, or the site of that name. Raises TypeError for what is neither, ValueError for a name that is none."""
    if isinstance(site, str):
        return Site.parse(site)
    if not isinstance(site, Site):
        raise TypeError(f"A Site is needed, not {site!r}: write Site(14) or 'blocks.14.hook_resid_post'.")
    return site


def _what_is(hook: str) -> str:
    near = _NEAREST.get(hook.rpartition(".")[2])
    if near is not None:
        return f"nearest to it is {near}."
    return f"the places are {', '.join(HOOKS)}."
