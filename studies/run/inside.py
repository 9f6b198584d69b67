"""One reply seen from inside: the states of its tokens, where it looked, and what each block would have said."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Add, Capture, Prompt, Site
from interv.prompts.encoding import Encoded
from methods.asking import ask
from methods.steerer import Fitted


@dataclass(frozen=True, eq=False)
class Inside:
    """One prompt's reply in one setting, and what the model did on the way.

    Attributes:
        reply: as text.
        tokens: those that ran with the ops, as text: the last one of the prompt, then the reply's but for its last one.
        states: leaving each block, at these tokens.
        attention: each block's, from the last prompt token to all tokens of the prompt, mean over heads.
        image: of the prompt's tokens, those of an image.
        stream: the norm of what the first op adds to, before it; of the last block's state where none adds.
        added: the norm of what was added there; 0 where nothing was.
    """

    reply: str
    tokens: tuple[str, ...]
    states: Float[Tensor, "layers tokens d_model"]
    attention: Float[Tensor, "layers prompt"]
    image: Tensor
    stream: Float[Tensor, " tokens"]
    added: Float[Tensor, " tokens"]

    @property
    def image_share(self) -> Float[Tensor, " layers"]:
        """How much of the last prompt token's attention goes to image tokens, from 0 to 1."""
        return self.attention[:, self.image].sum(dim=1)

    def moved_from(self, other: "Inside") -> Float[Tensor, " layers"]:
        """How far the last prompt token is from where it is in the other, in multiples of its norm there."""
        before = other.states[:, 0]
        return (self.states[:, 0] - before).norm(dim=-1) / before.norm(dim=-1)


def look_inside(
    vlm: VLM,
    prompt: Prompt,
    steerer: Fitted,
    strength: float,
    *,
    max_new_tokens: int,
    context: Prompt | None = None,
    vectors: Float[Tensor, "1 d_model"] | None = None,
) -> Inside:
    """Answer the prompt as the method steers it, greedily. `context` is read in the place of the prompt where given.

    Raises ValueError where the model's attention cannot be read, and for a method that mixes the logits of two streams.
    """
    if steerer.stream is not None:
        name = type(steerer).__name__
        raise ValueError(f"{name} mixes the logits of two runs and changes nothing inside the model; look at another.")
    asked = ask(vlm, [steerer.rewrite(prompt)], [steerer], None if context is None else [context])
    prefill, ops = asked.prefill, asked.run(steerer, strength, vectors).ops
    at = next((op.site for op in ops if isinstance(op, Add)), Site(vlm.n_layers - 1))
    before, after = Capture(at, "response"), Capture(at, "response")
    states = [Capture(Site(layer), "response") for layer in range(vlm.n_layers)]
    patterns = [Capture(Site(layer, "hook_pattern"), "last_prompt") for layer in range(vlm.n_layers)]
    replies = vlm.generate(prefill, [before, *ops, after, *states, *patterns], max_new_tokens=max_new_tokens)
    seen: Any = replies.captured
    ids = [int(prefill.encoded.tokens(0)[-1]), *replies.token_ids[0]]
    old, new = seen[before][0].float(), seen[after][0].float()
    return Inside(
        replies[0],
        tuple(vlm.processor.tokenizer.convert_ids_to_tokens(ids[: len(old)])),
        torch.stack([seen[capture][0] for capture in states]).float().cpu(),
        torch.stack([seen[capture][0] for capture in patterns]).float().mean(dim=1).cpu(),
        prefill.encoded.image_mask[0].cpu(),
        old.norm(dim=-1).cpu(),
        (new - old).norm(dim=-1).cpu(),
    )


def logit_lens(vlm: VLM, states: Float[Tensor, "layers d_model"]) -> Float[Tensor, "layers vocabulary"]:
    """Log-probabilities of the next token, as if each block were the last: its state through norm and output head.

    Source: the logit lens (nostalgebraist, 2020).
    """
    norm, head = vlm.model.get_submodule(vlm.layout.norm), vlm.model.get_output_embeddings()
    cap = getattr(vlm.model.config.get_text_config(), "final_logit_softcapping", None)
    with torch.no_grad():
        logits = head(norm(states.to(vlm.model.device, vlm.model.dtype))).float()
    logits = torch.tanh(logits / cap) * cap if cap else logits
    return logits.log_softmax(dim=-1).cpu()


def rivals(lenses: Sequence[Float[Tensor, "layers vocabulary"]]) -> list[int]:
    """Two tokens to follow over the blocks: what each setting says first, or else that and its runner-up."""
    first, last = (int(lens[-1].argmax()) for lens in (lenses[0], lenses[-1]))
    return [first, last] if first != last else lenses[0][-1].topk(2).indices.tolist()


def image_maps(vlm: VLM, encoded: Encoded, inside: Inside) -> Float[Tensor, "layers height width"] | None:
    """The attention to the image's tokens as they lie in the picture; None where they are no one grid."""
    looked = inside.attention[:, inside.image]
    if (grid := encoded.media.get("image_grid_thw")) is not None:
        merged = vlm.model.config.vision_config.spatial_merge_size
        height, width = (int(side) // merged for side in grid[0, 1:])
    else:
        height = width = math.isqrt(looked.shape[1])
    return looked.unflatten(1, (height, width)) if looked.shape[1] == height * width > 0 else None
