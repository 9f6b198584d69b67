"""Every kind of place in the model: the name that users write, and the module that a test reaches by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interv import VLM, Site

BLOCKS = "model.language_model.layers"
VISION = {
    "llava": ("model.vision_tower.encoder.layers.0", "model.multi_modal_projector"),
    "qwen2_vl": ("model.visual.blocks.0", "model.visual.merger"),
}


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
    """

    site: Site
    path: str
    side: str
    width: int
    sees_tokens: bool = True
    in_stream: bool = False
    stateless: bool = False


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
    "vision block": _vision(0),
    "vision block input": _vision(0, "input"),
    "projector": _vision(1),
    "projector input": _vision(1, "input"),
}
TOKEN_PLACES = tuple(name for name in PLACES if "vision" not in name and "projector" not in name)
HOOK_PLACES = tuple(name for name in PLACES if name.startswith("hook_"))
IMAGE_PLACES = tuple(name for name in PLACES if name not in TOKEN_PLACES)
