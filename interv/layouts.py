"""Where each model family keeps its parts: one row a family."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from interv.site import Side, Site


@dataclass(frozen=True)
class Layout:
    """Module paths of one family, from the top of the Hugging Face model."""

    blocks: str = "model.language_model.layers"
    embedding: str = "model.language_model.embed_tokens"
    norm: str = "model.language_model.norm"
    vision_blocks: str = "model.visual.blocks"
    projector: str = "model.visual.merger"
    attention_output: str = "self_attn.o_proj"
    mlp: str = "mlp"
    norm_before_mlp: str = "post_attention_layernorm"
    images_by_prompt: bool = False  # whether the processor wants a list of images for each prompt

    def locate(self, site: Site) -> tuple[str, Side]:
        """The module path and side where the site's hidden state passes."""
        if site.path is not None:
            return site.path, site.side
        block = f"{self.blocks}.{site.layer}"
        match site.hook:
            case "hook_resid_pre":
                return block, "input"
            case "hook_resid_mid":
                return f"{block}.{self.norm_before_mlp}", "input"
            case "hook_attn_out":
                return f"{block}.{self.attention_output}", "output"
            case "hook_mlp_out":
                return f"{block}.{self.mlp}", "output"
            case "hook_resid_post":
                return block, "output"
            case _:
                raise ValueError(f"{site} has no place in this family yet.")

    def end_of(self, sites: Sequence[Site]) -> tuple[str, Side] | None:
        """Where a run may stop that is made for these sites alone: behind the last block that holds one."""
        layers = [site.layer for site in sites]
        if not layers or None in layers:
            return None
        return self.locate(Site(max(layers)))  # type: ignore[type-var]

    def keys_of(self, layer: int) -> tuple[str, Side]:
        """Where a run may stop that is made for keys and values alone: this block has them, and no output yet."""
        return self.locate(Site(layer, "hook_attn_out"))[0], "input"

    def in_stream(self, site: Site) -> bool:
        """Whether the module at the site is given the very tensor that the block goes on with.

        That holds before the second norm: a change to the residual stream must reach both.
        """
        return site.layer is not None and site.hook == "hook_resid_mid"

    def sees_tokens(self, site: Site) -> bool:
        """Whether the site has one position a token, rather than one an image patch."""
        path, _ = self.locate(site)
        decoder = self.blocks.rpartition(".")[0]
        return path == "lm_head" or f"{path}.".startswith(f"{decoder}.") or decoder.startswith(f"{path}.")


_TOWER = Layout(vision_blocks="model.vision_tower.encoder.layers", projector="model.multi_modal_projector")
_SMOL = Layout(
    blocks="model.text_model.layers",
    embedding="model.text_model.embed_tokens",
    norm="model.text_model.norm",
    vision_blocks="model.vision_model.encoder.layers",
    projector="model.connector",
    images_by_prompt=True,
)
# By `config.model_type`. A row is admitted by the property tests on a tiny model of the family; see docs/models.md.
LAYOUTS: dict[str, Layout] = {
    "llava": _TOWER,
    "qwen2_vl": Layout(),
    "llava_next": _TOWER,
    "llava_onevision": _TOWER,
    "qwen2_5_vl": Layout(),
    "qwen3_vl": Layout(),
    "internvl": replace(_TOWER, vision_blocks="model.vision_tower.encoder.layer"),
    "gemma3": replace(
        _TOWER,
        # What leaves attention and MLP is normalised before it is added to the residual stream.
        attention_output="post_attention_layernorm",
        mlp="post_feedforward_layernorm",
        norm_before_mlp="pre_feedforward_layernorm",
        images_by_prompt=True,
    ),
    "idefics3": _SMOL,
    "smolvlm": _SMOL,
}


def layout_of(model_type: str) -> Layout:
    """The row of a family, by `config.model_type`."""
    if model_type not in LAYOUTS:
        raise ValueError(
            f"{model_type!r} has no row in interv/layouts.py; the families are {', '.join(LAYOUTS)}. "
            "Add a row with the paths of its modules and run the property tests over it."
        )
    return LAYOUTS[model_type]
