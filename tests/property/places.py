"""Every kind of place in the model: the name that users write, and the module that a test reaches by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from interv import VLM, Site

BLOCKS = "model.language_model.layers"
BEFORE_MLP = "post_attention_layernorm"  # the norm in a block that the MLP reads from
NORM_OFFSET = 0.0  # what the text model's norms add to their weights
VISION = {
    "llava": ("model.vision_tower.encoder.layers.0", "model.multi_modal_projector"),
    "qwen2_vl": ("model.visual.blocks.0", "model.visual.merger"),
}
# The projections to queries, keys and values, that of the heads' outputs, and whether the first three are one.
_FOUR = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
VISION_ATTENTION = {"llava": (_FOUR, False), "qwen2_vl": (("attn.qkv", "attn.qkv", "attn.qkv", "attn.proj"), True)}


@dataclass(frozen=True)
class Place:
    """A site, and where plain hooks find it.

    Attributes:
        site: the name under test.
        path, side: the module whose input or output is the hidden state.
        width: of that hidden state.
        sees_tokens: whether it has one position a token; image patches have not.
        in_stream: whether the block goes on with the very tensor that the module is given, so that a change must be
            made in place: `residual = hidden; hidden = norm(hidden)`.
        stateless: whether the module's output follows from its input alone, so that a test can work it out again.
        columns: the first column of the module's value that is the hidden state's, and the one behind the last.
    """

    site: Site
    path: str
    side: str
    width: int
    sees_tokens: bool = True
    in_stream: bool = False
    stateless: bool = False
    columns: tuple[int, int] | None = None

    def take(self, value: Tensor) -> Tensor:
        """The hidden state in the module's value."""
        return value if self.columns is None else value[..., slice(*self.columns)]

    def put(self, value: Tensor, hidden: Tensor) -> Tensor:
        """The module's value with another hidden state in it, and all else as it was."""
        if self.columns is None:
            return hidden
        changed = value.clone()
        changed[..., slice(*self.columns)] = hidden
        return changed


def _hook(hook: str, part: str, side: str) -> Callable[[VLM, int], Place]:
    def place(vlm: VLM, layer: int) -> Place:
        path, mid = f"{BLOCKS}.{layer}{part}", hook == "hook_resid_mid"
        return Place(Site(layer, hook), path, side, vlm.d_model, in_stream=mid, stateless=hook == "hook_mlp_out")

    return place


def _path(part: str, side: str = "output", width: str = "hidden_size") -> Callable[[VLM, int], Place]:
    def place(vlm: VLM, layer: int) -> Place:
        path = part.format(f"{BLOCKS}.{layer}")
        size = getattr(vlm.model.config.get_text_config(), width)
        return Place(Site.parse(path, side=side), path, side, size, stateless="mlp" in part)

    return place


def _inside(hook: str, part: str, side: str, heads: str = "", head: bool = False) -> Callable[[VLM, int], Place]:
    """A place inside attention or MLP; with `head` one of its heads, which lie side by side."""

    def place(vlm: VLM, layer: int) -> Place:
        config = vlm.model.config.get_text_config()
        path = f"{BLOCKS}.{layer}.{part}"
        if not heads:
            return Place(Site.parse(f"blocks.{layer}.{hook}"), path, side, config.intermediate_size)
        count = getattr(config, heads)
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if not head:
            return Place(Site(layer - vlm.n_layers, hook), path, side, count * size)
        chosen = (layer + 1) % count
        columns = (chosen * size, (chosen + 1) * size)
        return Place(Site(layer, hook, head=chosen), path, side, size, columns=columns)

    return place


def _vision_head(hook: str, part: int) -> Callable[[VLM, int], Place]:
    """The second head in the tower's first block. Qwen2-VL has queries, keys and values in one module."""

    def place(vlm: VLM, layer: int) -> Place:
        block = VISION[vlm.model.config.model_type][0]
        vision: Any = vlm.model.config.vision_config
        width = getattr(vision, "embed_dim", None) or vision.hidden_size
        size = width // (getattr(vision, "num_attention_heads", None) or vision.num_heads)
        attention, fused = VISION_ATTENTION[vlm.model.config.model_type]
        start = size + (part * width if fused and hook != "hook_z" else 0)
        path = f"{block}.{attention[part]}"
        side = "input" if hook == "hook_z" else "output"
        site = Site(0, hook, head=1, tower="vision")
        return Place(site, path, side, size, sees_tokens=False, columns=(start, start + size))

    return place


def _vision(index: int, side: str = "output") -> Callable[[VLM, int], Place]:
    def place(vlm: VLM, layer: int) -> Place:
        path = VISION[vlm.model.config.model_type][index]
        vision: Any = vlm.model.config.vision_config
        inner = getattr(vision, "embed_dim", None) or vision.hidden_size
        width = vlm.d_model if index == 1 and side == "output" else inner
        return Place(Site.parse(path, side=side), path, side, width, sees_tokens=False)

    return place


PLACES: dict[str, Callable[[VLM, int], Place]] = {
    "hook_resid_pre": _hook("hook_resid_pre", "", "input"),
    "hook_resid_mid": _hook("hook_resid_mid", ".post_attention_layernorm", "input"),
    "hook_resid_post": _hook("hook_resid_post", "", "output"),
    "hook_attn_out": _hook("hook_attn_out", ".self_attn.o_proj", "output"),
    "hook_mlp_out": _hook("hook_mlp_out", ".mlp", "output"),
    "block": _path("{}"),
    "block input": _path("{}", "input"),
    "attention": _path("{}.self_attn"),
    "attention input": _path("{}.self_attn", "input"),
    "mlp input": _path("{}.mlp", "input"),
    "gate": _path("{}.mlp.gate_proj", width="intermediate_size"),
    "first norm": _path("{}.input_layernorm"),
    "final norm": _path("model.language_model.norm"),
    "output head": _path("lm_head", width="vocab_size"),
    "hook_q": _inside("hook_q", "self_attn.q_proj", "output", "num_attention_heads"),
    "hook_k": _inside("hook_k", "self_attn.k_proj", "output", "num_key_value_heads"),
    "hook_v": _inside("attn.hook_v", "self_attn.v_proj", "output", "num_key_value_heads"),
    "hook_z": _inside("attn.o.hook_in", "self_attn.o_proj", "input", "num_attention_heads"),
    "query head": _inside("hook_q", "self_attn.q_proj", "output", "num_attention_heads", head=True),
    "key head": _inside("hook_k", "self_attn.k_proj", "output", "num_key_value_heads", head=True),
    "value head": _inside("hook_v", "self_attn.v_proj", "output", "num_key_value_heads", head=True),
    "z head": _inside("hook_z", "self_attn.o_proj", "input", "num_attention_heads", head=True),
    "hook_pre_linear": _inside("mlp.hook_pre_linear", "mlp.up_proj", "output"),
    "hook_post": _inside("mlp.out.hook_in", "mlp.down_proj", "input"),
    "vision key head": _vision_head("hook_k", 1),
    "vision z head": _vision_head("hook_z", 3),
    "vision block": _vision(0),
    "vision block input": _vision(0, "input"),
    "projector": _vision(1),
    "projector input": _vision(1, "input"),
}
HEAD_PLACES = ("query head", "key head", "value head", "z head")
TOKEN_PLACES = tuple(name for name in PLACES if "vision" not in name and "projector" not in name)
HOOK_PLACES = tuple(name for name in PLACES if name.startswith("hook_"))
IMAGE_PLACES = tuple(name for name in PLACES if name not in TOKEN_PLACES)
