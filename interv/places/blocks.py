"""Where a block keeps its parts: one row a kind of block, and TransformerLens' names found in it."""

from dataclasses import dataclass

from interv.places.site import Side


@dataclass(frozen=True)
class Block:
    """Module paths of a block's parts, from the block. None where the kind of block has no such part.

    Attributes:
        ln1, ln2: the norms before attention and before the MLP.
        q, k, v: the projections, whose output is not rotated yet; one module three times where they are fused.
        attention: the module that calls the attention function.
        o: the projection that is given the heads' outputs side by side.
        attention_output, mlp_output: whose output is added to the residual stream.
        pre, pre_linear: what the activation function is given, and what its value is multiplied by.
        post: the projection that is given the MLP's inside.
    """

    ln1: str = "input_layernorm"
    ln2: str = "post_attention_layernorm"
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    attention: str = "self_attn"
    o: str = "self_attn.o_proj"
    attention_output: str = "self_attn.o_proj"
    pre: str = "mlp.gate_proj"
    pre_linear: str | None = "mlp.up_proj"
    post: str = "mlp.down_proj"
    mlp_output: str = "mlp"

    @property
    def fused(self) -> bool:
        """Whether one module puts out queries, keys and values, one after the other."""
        return self.q == self.k

    def locate(self, hook: str) -> tuple[str, Side] | None:
        """The part and the side where the place is, "" for the block itself; None where this kind has none."""
        places: dict[str, tuple[str | None, Side]] = {
            "hook_resid_pre": ("", "input"),
            "hook_resid_mid": (self.ln2, "input"),
            "hook_resid_post": ("", "output"),
            "hook_attn_out": (self.attention_output, "output"),
            "hook_mlp_out": (self.mlp_output, "output"),
            "attn.hook_q": (self.q, "output"),
            "attn.hook_k": (self.k, "output"),
            "attn.hook_v": (self.v, "output"),
            "attn.hook_z": (self.o, "input"),
            "attn.hook_result": (self.o, "output"),
            "mlp.hook_pre": (self.pre, "output"),
            "mlp.hook_pre_linear": (self.pre_linear, "output"),
            "mlp.hook_post": (self.post, "input"),
        }
        norm, _, _ = hook.partition(".")
        if norm in ("ln1", "ln2"):
            return getattr(self, norm), "output"
        part, side = places.get(hook, (None, "output"))
        return None if part is None else (part, side)


GATED = Block()
# What leaves attention and MLP is normalised before it is added to the residual stream.
NORMED_TWICE = Block(
    ln2="pre_feedforward_layernorm",
    attention_output="post_attention_layernorm",
    mlp_output="post_feedforward_layernorm",
)
# CLIP and SigLIP.
CLIP = Block(
    ln1="layer_norm1",
    ln2="layer_norm2",
    o="self_attn.out_proj",
    attention_output="self_attn.out_proj",
    pre="mlp.fc1",
    pre_linear=None,
    post="mlp.fc2",
)
INTERNVL = Block(
    ln1="layernorm_before",
    ln2="layernorm_after",
    q="attention.q_proj",
    k="attention.k_proj",
    v="attention.v_proj",
    o="attention.projection_layer",
    attention_output="attention.projection_layer",
    pre="mlp.fc1",
    pre_linear=None,
    post="mlp.fc2",
)
QWEN2 = Block(
    ln1="norm1",
    ln2="norm2",
    q="attn.qkv",
    k="attn.qkv",
    v="attn.qkv",
    o="attn.proj",
    attention_output="attn.proj",
    pre="mlp.fc1",
    pre_linear=None,
    post="mlp.fc2",
)
QWEN2_5 = Block(
    ln1="norm1",
    ln2="norm2",
    q="attn.qkv",
    k="attn.qkv",
    v="attn.qkv",
    o="attn.proj",
    attention_output="attn.proj",
)
QWEN3 = Block(
    ln1="norm1",
    ln2="norm2",
    q="attn.qkv",
    k="attn.qkv",
    v="attn.qkv",
    o="attn.proj",
    attention_output="attn.proj",
    pre="mlp.linear_fc1",
    pre_linear=None,
    post="mlp.linear_fc2",
)
