"""TransformerLens 4.3 itself on LLaVA: every name that both know has the same shape and value, and edits act alike.

Optional: `pip install 'interv[transformerlens]'`. TransformerLens wraps the model that it is given, so it gets its own.

What is not shared, and why:

| TransformerLens' names | here |
| --- | --- |
| hook_{q,k,v}_input, hook_attn_in, hook_mlp_in | forks, made on request; nearest: hook_resid_pre, hook_resid_mid |
| hook_cos, hook_sin, rotary_emb.* | tables of positions, no activations |
| embed.hook_in | token ids |
| the tower's embeddings and outer norms, the projector | by their module paths |
| scores and weights in the tower | cannot be reached there |
| mlp.in.hook_out in the tower | mlp.hook_pre: there is no gate, so "in" is what the activation function is given |
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import interv
from interv import VLM, Site
from interv.places.site import ATTENTION_HOOKS
from tests.property.cases import Ask
from tests.property.reference import close

lens = pytest.importorskip(
    "transformer_lens.model_bridge", reason="an optional extra: pip install 'interv[transformerlens]'"
)

NAME = "tiny-llava"
ASK = Ask("what is it?", ((56, 56),), 0)
NO_ACTIVATIONS = ("hook_cos", "hook_sin", "rotary_emb", "embed.hook_in")
OUTER_TOWER = (
    "embeddings",
    "pre_layernorm",
    "post_layernorm",
    "vision_projector",
    "hook_vision",
    "vision_encoder.hook_",
)
FORKS = ("hook_q_input", "hook_k_input", "hook_v_input", "hook_attn_in", "hook_mlp_in")
EDITED = (
    "hook_resid_pre",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "ln1.hook_scale",
    "ln1.hook_normalized",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_attn_scores",
    "attn.hook_pattern",
    "attn.hook_z",
    "attn.hook_result",
    "ln2.hook_scale",
    "ln2.hook_normalized",
    "mlp.hook_pre",
    "mlp.hook_pre_linear",
    "mlp.hook_post",
)


@pytest.fixture(scope="module")
def ours() -> VLM:
    return VLM.load(NAME)


@pytest.fixture(scope="module")
def theirs() -> Any:
    other = VLM.load(NAME)
    other.model.config.architectures = ["LlavaForConditionalGeneration"]
    folder = Path(interv.__file__).parent / "embedded" / NAME
    bridge = lens.TransformerBridge.boot_transformers(
        str(folder), hf_model=other.model, tokenizer=other.processor.tokenizer, device="cpu"
    )
    bridge.set_use_attn_result(True)
    return bridge


def inputs(vlm: VLM) -> dict[str, Tensor]:
    given = vlm.encode([ASK.prompt()]).model_inputs()
    return {"pixel_values": given["pixel_values"], "attention_mask": given["attention_mask"]}


def ids(vlm: VLM) -> Tensor:
    return vlm.encode([ASK.prompt()]).input_ids


def shared(name: str) -> bool:
    """Whether the name is one of both, see the table above."""
    elsewhere = any(part in name for part in (*NO_ACTIVATIONS, *OUTER_TOWER)) or name.endswith(FORKS)
    tower = name.startswith("vision_encoder.") and name.endswith("mlp.in.hook_out")
    return not (elsewhere or tower or (name.startswith("vision_encoder.") and name.endswith(ATTENTION_HOOKS)))


def seen(scores: Tensor) -> Tensor:
    """Where the mask hides a column TransformerLens has the least number there is, and here stands minus infinity."""
    return torch.where(scores > torch.finfo(scores.dtype).min, scores, 0.0)


def test_every_shared_hook_has_the_same_value(ours: VLM, theirs: Any) -> None:
    """Of every block, at every token of the prompt, image tokens too."""
    with torch.no_grad():
        logits, cache = theirs.run_with_cache(ids(ours), **inputs(ours))
    results = [Site(layer, "hook_result") for layer in range(ours.n_layers)]
    own_logits, own = ours.run_with_cache([ASK.prompt()])
    _, own_results = ours.run_with_cache([ASK.prompt()], results)
    close(own_logits, logits)
    compared: set[str] = set()
    for name in filter(shared, cache.keys()):
        known = own_results if name.endswith("hook_result") else own
        close(seen(known[name]), seen(cache[name]))
        assert torch.equal(seen(known[name]) == 0, seen(cache[name]) == 0) or not name.endswith("scores")
        compared.add(name)
    assert len(compared) > 45 * ours.n_layers
    assert {str(site) for site in results} <= compared
    assert {str(Site.parse(name)) for name in compared} >= set(own)


@pytest.mark.parametrize("hook", EDITED)
def test_edits_act_alike(ours: VLM, theirs: Any, hook: str) -> None:
    """All but hook_resid_mid: there TransformerLens changes what the MLP's norm is given, here it is the stream."""
    name = f"blocks.2.{hook}"
    changes: list[Callable[[Tensor, Any], Tensor]] = [lambda value, hook: value * 1.5, lambda value, hook: value + 0.25]
    for change in changes:
        mine = ours.run_with_hooks([ASK.prompt()], [(name, change)])
        with torch.no_grad():
            wanted = theirs.run_with_hooks(ids(ours), fwd_hooks=[(name, change)], **inputs(ours))
        close(mine, wanted)


def test_one_head_is_the_head(ours: VLM, theirs: Any) -> None:
    """Key-value heads too, of which there are fewer."""

    def without(value: Tensor, hook: Any) -> Tensor:
        value[:, :, 1] = 0.0
        return value

    for hook in ("attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z"):
        op = interv.Scale(Site(2, hook, head=1), 0.0, "all")
        mine, _ = ours.run_with_cache([ASK.prompt()], ["hook_embed"], [op])
        with torch.no_grad():
            wanted = theirs.run_with_hooks(ids(ours), fwd_hooks=[(f"blocks.2.{hook}", without)], **inputs(ours))
        close(mine, wanted)
