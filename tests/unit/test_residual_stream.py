"""The residual stream between attention and MLP: a change there reaches both the MLP and what passes by it."""

import torch

from interv import VLM, Add, Site
from tests.property.cases import Case
from tests.property.reference import close


def test_adding_to_the_stream_after_attention_is_adding_to_what_attention_puts_out(vlm: VLM) -> None:
    vector = torch.randn(vlm.d_model, generator=torch.Generator().manual_seed(0))
    middle, attention = (
        vlm.logits(Case().prompts(), [Add(Site(0, hook), vector)]) for hook in ("hook_resid_mid", "hook_attn_out")
    )
    close(middle, attention)


def test_adding_to_the_stream_after_attention_reaches_the_next_block(vlm: VLM) -> None:
    vector = torch.full((vlm.d_model,), 1000.0)  # the MLP sees a norm of it, so this much comes past the MLP alone
    prompts, after = Case().prompts(), Site(0)
    plain = vlm.capture(prompts, [after], tokens="all")[after]
    steered = vlm.capture(prompts, [after], tokens="all", ops=[Add(Site(0, "hook_resid_mid"), vector, "all")])[after]
    for one, other in zip(plain, steered, strict=True):
        assert ((other - one) > 800).all()
