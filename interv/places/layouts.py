"""Where each model family keeps its parts: one row a family."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from interv.places.blocks import CLIP, GATED, INTERNVL, NORMED_TWICE, QWEN2, QWEN2_5, QWEN3, Block
from interv.places.site import ATTENTION_HOOKS, HOOKS, MODEL_HOOKS, Side, Site


@dataclass(frozen=True)
class Sizes:
    """How many blocks a tower has, and how many heads of each kind each of them."""

    layers: int
    heads: int
    key_value_heads: int


@dataclass(frozen=True)
class Layout:
    """Module paths of one family, from the top of the Hugging Face model, and the sizes of one model of it."""

    blocks: str = "model.language_model.layers"
    embedding: str = "model.language_model.embed_tokens"
    norm: str = "model.language_model.norm"
    output_head: str = "lm_head"
    vision_blocks: str = "model.visual.blocks"
    projector: str = "model.visual.merger"
    block: Block = GATED
    vision_block: Block = QWEN2
    images_by_prompt: bool = False  # whether the processor wants a list of images for each prompt
    norm_offset: float = 0.0  # what the decoder's norms add to their weight before they multiply by it
    sizes: Sizes | None = None
    vision_sizes: Sizes | None = None

    def of(self, model: nn.Module) -> "Layout":
        """The same row, with the sizes of this model."""
        config: Any = model.config
        text, vision = config.get_text_config(), config.vision_config
        seeing: int = getattr(vision, "num_attention_heads", None) or getattr(vision, "num_heads", None) or 0
        # A tower without heads is a convolutional one, whose blocks are none that sites name.
        layers = len(model.get_submodule(self.vision_blocks)) if seeing else 0  # type: ignore[arg-type]
        return replace(
            self,
            sizes=Sizes(text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads),
            vision_sizes=Sizes(layers, seeing, seeing),
        )

    def tower_of(self, site: Site) -> tuple[str, Block, Sizes | None]:
        """The tower that a block's site is in: where its blocks are, of what kind, how many."""
        if site.tower == "vision":
            return self.vision_blocks, self.vision_block, self.vision_sizes
        return self.blocks, self.block, self.sizes

    def number_of(self, site: Site) -> int | None:
        """The block that the site is in, counted from 0; None outside the blocks."""
        sizes = self.tower_of(site)[2]
        if site.layer is None or site.layer >= 0 or sizes is None:
            return site.layer
        return site.layer + sizes.layers

    def decoder_block_of(self, site: Site) -> int | None:
        """The decoder block that the site is in; None elsewhere."""
        return self.number_of(site) if site.tower == "language" else None

    def heads_of(self, site: Site) -> int | None:
        """How many heads lie side by side at the site, where it is one of attention's."""
        sizes = self.tower_of(site)[2]
        if sizes is None or site.layer is None or not site.hook.startswith("attn."):
            return None
        grouped = ("attn.hook_k", "attn.hook_v", "attn.hook_rot_k")
        return sizes.key_value_heads if site.hook in grouped else sizes.heads

    def locate(self, site: Site) -> tuple[str, Side]:
        """The module path and side where the site's hidden state passes. Raises ValueError where there is none."""
        if site.path is not None:
            return site.path, site.side
        if site.layer is None:
            places = {"hook_embed": self.embedding, "unembed.hook_out": self.output_head}
            return places.get(site.hook, self.norm), "output"
        blocks, block, _ = self.tower_of(site)
        if site.hook in ATTENTION_HOOKS:  # the module that they are inside of
            if site.tower == "vision":
                raise ValueError(f"{site} is inside the attention of the vision tower, where nothing can be read.")
            return f"{blocks}.{self.number_of(site)}.{block.attention}", "output"
        found = block.locate(site.hook)
        if found is None:
            raise ValueError(f"{site} is not in these blocks, whose MLP has no gate; nearest to it is mlp.hook_pre.")
        part, side = found
        return ".".join(filter(None, (blocks, str(self.number_of(site)), part))), side

    def has(self, site: Site) -> bool:
        """Whether the family has such a place."""
        try:
            self.locate(site)
        except ValueError:
            return False
        return True

    def sites(self) -> list[Site]:
        """Every named place: in the decoder's blocks, outside the blocks, in the vision tower's blocks."""
        assert self.sizes is not None
        assert self.vision_sizes is not None
        decoder = [Site(layer, hook) for layer in range(self.sizes.layers) for hook in HOOKS]
        outside = [Site(hook=hook) for hook in MODEL_HOOKS]
        vision = [Site(layer, hook, tower="vision") for layer in range(self.vision_sizes.layers) for hook in HOOKS]
        return [site for site in (*decoder, *outside, *vision) if self.has(site)]

    def end_of(self, sites: Sequence[Site]) -> tuple[str, Side] | None:
        """Where a run may stop that is made for these sites alone: behind the last block that holds one."""
        layers = [self.decoder_block_of(site) for site in sites]
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

    def in_attention(self, site: Site) -> bool:
        """Whether the site is no module's input or output, but between queries and keys and the heads' outputs."""
        return site.layer is not None and site.hook in ATTENTION_HOOKS

    def sees_tokens(self, site: Site) -> bool:
        """Whether the site has one position a token, rather than one an image patch."""
        path, _ = self.locate(site)
        decoder = self.blocks.rpartition(".")[0]
        return path == self.output_head or f"{path}.".startswith(f"{decoder}.") or decoder.startswith(f"{path}.")


_TOWER = Layout(
    vision_blocks="model.vision_tower.encoder.layers", projector="model.multi_modal_projector", vision_block=CLIP
)
_SMOL = Layout(
    blocks="model.text_model.layers",
    embedding="model.text_model.embed_tokens",
    norm="model.text_model.norm",
    vision_blocks="model.vision_model.encoder.layers",
    projector="model.connector",
    vision_block=CLIP,
    images_by_prompt=True,
)
# By `config.model_type`. A row is admitted by the property tests on a tiny model of the family; see docs/models.md.
LAYOUTS: dict[str, Layout] = {
    "llava": _TOWER,
    "qwen2_vl": Layout(),
    "llava_next": _TOWER,
    "llava_onevision": _TOWER,
    "qwen2_5_vl": Layout(vision_block=QWEN2_5),
    "qwen3_vl": Layout(vision_block=QWEN3),
    "internvl": replace(_TOWER, vision_blocks="model.vision_tower.encoder.layer", vision_block=INTERNVL),
    "gemma3": replace(_TOWER, block=NORMED_TWICE, images_by_prompt=True, norm_offset=1.0),
    "idefics3": _SMOL,
    "smolvlm": _SMOL,
}


def layout_of(model_type: str) -> Layout:
    """The row of a family, by `config.model_type`."""
    if model_type not in LAYOUTS:
        raise ValueError(
            f"{model_type!r} has no row in interv/places/layouts.py; the families are {', '.join(LAYOUTS)}. "
            "Add a row with the paths of its modules and run the property tests over it."
        )
    return LAYOUTS[model_type]
