"""How far a training is: what the model answers, and what its states know, on scenes that nothing else looks at."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from studies.measure.threshold import best_threshold
from studies.smol_world.dialogues import asked
from studies.smol_world.pack import pack
from studies.smol_world.pool import Pool
from studies.smol_world.scenes import absent_word

READS = (15, 20, 25)  # decoder blocks that are probed
FOLDS = 5


@dataclass(frozen=True)
class Check:
    """Shares of right answers: unsteered, with the best threshold on logit(yes) - logit(no), with a linear probe of the
    state at the last prompt token (the best block's, cross-validated over scenes); and shares of "yes" by subset."""

    answers: float
    threshold: float
    probe: float
    yes: dict[str, float]

    def __str__(self) -> str:
        said = "  ".join(f"{name} {share:.2f}" for name, share in self.yes.items())
        return f"answers {self.answers:.3f}  threshold {self.threshold:.3f}  probe {self.probe:.3f}  yes: {said}"


KINDS = ("present", "present", "random", "adversarial")


@torch.no_grad()
def check(model: LlavaForConditionalGeneration, processor, pool: Pool, seed: int, batch: int = 4) -> Check:
    """Two things that are there and two that are not, asked about each scene of the pool."""
    tokens, text = processor.tokenizer, model.model.language_model
    yes, no = (tokens(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
    contrast = model.lm_head.weight[yes] - model.lm_head.weight[no]
    rng = np.random.default_rng([seed, 5])
    margins, states = [], []
    for start in range(0, len(pool.scenes), batch):
        scenes = pool.scenes[start : start + batch]
        talks = [
            [asked(str(word), True) for word in rng.choice(scene.words, 2)]
            + [asked(absent_word(rng, scene, kind), False) for kind in ("random", "adversarial")]
            for scene in scenes
        ]
        packed = pack(processor, talks, pool.cells.shape[1])
        embedded = embed(model, packed.ids, pool.cells[start : start + batch])
        out = text(
            inputs_embeds=embedded,
            attention_mask=packed.mask(),
            position_ids=packed.positions,
            output_hidden_states=True,
            use_cache=False,
        )
        margins.append(out.last_hidden_state[packed.asks] @ contrast)
        states.append(torch.stack([out.hidden_states[layer + 1][packed.asks] for layer in READS]))
    margin = torch.cat(margins).reshape(-1, len(KINDS))
    truth = torch.tensor([kind == "present" for kind in KINDS]).expand_as(margin)
    shares = (margin > 0).float().mean(0).tolist()
    said = dict(zip(KINDS, shares, strict=True))
    return Check(
        answers=((margin > 0) == truth).float().mean().item(),
        threshold=((margin > best_threshold(margin.flatten(), truth.flatten())) == truth).float().mean().item(),
        probe=max(_probe(one, truth.flatten(), len(KINDS)) for one in torch.cat(states, dim=1)),
        yes=said,
    )


def embed(model: LlavaForConditionalGeneration, ids: Tensor, cells: Tensor) -> Tensor:
    """Token embeddings with the projected cells at the image's tokens, [rows, tokens, d_model]."""
    embedded = model.get_input_embeddings()(ids)
    projected = model.model.multi_modal_projector(cells.float())
    where = (ids == model.config.image_token_id)[..., None].expand_as(embedded)
    return embedded.masked_scatter(where, projected)


def _probe(states: Float[Tensor, "answers width"], truth: Bool[Tensor, " answers"], per_scene: int) -> float:
    """Share of right answers of a ridge classifier on scenes that it was not fitted on."""
    scene = torch.arange(len(states)) // per_scene
    signs, hits = truth.float() * 2 - 1, 0.0
    for fold in range(FOLDS):
        held = scene % FOLDS == fold
        mean, scale = states[~held].mean(0), states[~held].std(0) + 1e-6
        fit, rest = (states[~held] - mean) / scale, (states[held] - mean) / scale
        kernel = fit @ fit.T
        weights = torch.linalg.solve(kernel + 0.1 * kernel.diagonal().mean() * torch.eye(len(fit)), signs[~held])
        hits += ((rest @ fit.T @ weights > 0) == truth[held]).float().sum().item()
    return hits / len(states)
