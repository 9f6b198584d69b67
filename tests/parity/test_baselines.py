"""The other systems against their published rules, written out plainly over full passes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from interv import VLM, Site
from methods import ADHH, CAST, PAI, VCD, Condition, PAILogits, Read, Rule, steer
from methods.asking import ask as run_once
from methods.conditions import against, pairwise_direction, similarity
from methods.streams import Noised
from tests.baselines import contrasts
from tests.parity.eager import edited_reply, passed
from tests.property.cases import Ask
from tests.property.reference import close, own_inputs, same_reply
from tests.tiny_models import RANDOM, build

ASKS = (Ask("what is it?", ((84, 56),), 0), Ask("hm", ((28, 28), (56, 28)), 1))
STEPS = 4
ByHand = Callable[[Ask], tuple[list[int], Tensor]]


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def check_reply(vlm: VLM, steerer: PAI | ADHH, strength: float, by_hand: ByHand) -> None:
    """Tokens and logits of both rows of one batch, padded, against full passes over each alone."""
    options = {"max_new_tokens": STEPS, "eos_token_id": [], "logits": True}
    replies = steer(vlm, [ask.prompt() for ask in ASKS], steerer, strength=strength, **options)
    plain = vlm.generate([ask.prompt() for ask in ASKS], **options)
    assert replies.logits is not None
    assert plain.logits is not None
    for row, ask in enumerate(ASKS):
        same_reply(replies.token_ids[row], replies.logits[row], *by_hand(ask))
        assert (replies.logits[row, 0] - plain.logits[row, 0]).abs().max() > 1e-2


def check_pai(vlm: VLM, start: int = 1, alpha: float = 0.6) -> None:
    """s + alpha |s| on image columns, every head, from block `start` on, every query of the reply."""

    def scores(block: int, s: Tensor, image: Tensor, last: int) -> Tensor:
        edited = s.clone()
        if block >= start:
            edited[:, :, last:, image] = s[:, :, last:, image] + alpha * s[:, :, last:, image].abs()
        return edited

    steerer = PAI.fit(contrasts(vlm), vlm=vlm, start=start, alpha=0.3)
    check_reply(vlm, steerer, alpha / 0.3, lambda ask: edited_reply(vlm, ask, STEPS, scores=scores))


def check_adhh(vlm: VLM, threshold: float = 0.3) -> None:
    """a = 0 on columns behind the image where they sum to the threshold, in the listed heads; nothing is rescaled."""
    heads = ((0, 1), (1, 0), (1, 3), (2, 2))
    fired = []

    def weights(block: int, a: Tensor, image: Tensor, last: int) -> Tensor:
        edited, behind = a.clone(), torch.arange(len(image)) > int(image.nonzero().max())
        for own, head in heads:
            if own == block:
                for query in range(last, a.shape[2]):
                    fired.append(float(a[0, head, query, behind].sum()) >= threshold)
                    if fired[-1]:
                        edited[0, head, query, behind] = 0
        return edited

    steerer = ADHH(0, 0, vlm.fingerprint, heads, threshold=threshold)
    check_reply(vlm, steerer, 1.0, lambda ask: edited_reply(vlm, ask, STEPS, weights=weights))
    assert 0 < sum(fired) < len(fired)


def check_pai_logits(vlm: VLM, gamma: float = 1.5) -> None:
    """gamma (lc - lu) + lu, cut off below a tenth of the likeliest; lu is of the same text without the image."""

    def chosen(ask: Ask, reply: list[int]) -> int:
        own, without = (passed(vlm, one, reply).log_softmax(-1) for one in (ask, replace(ask, sizes=())))
        mixed = gamma * (own - without) + without
        return int(mixed.masked_fill(own < np.log(0.1) + own.max(), -torch.inf).argmax())

    check_choices(vlm, PAILogits.fit(contrasts(vlm), excess=gamma - 1), chosen)


def check_vcd(vlm: VLM, alpha: float = 1.0) -> None:
    """(1 + alpha) l - alpha l', cut off below a tenth of the likeliest; l' is of noised pixels."""

    def chosen(ask: Ask, reply: list[int]) -> int:
        inputs = own_inputs(vlm, [ask])
        grid = inputs.get("image_grid_thw")
        images = inputs["pixel_values"].split(1 if grid is None else grid.prod(-1).tolist())
        noised = torch.cat([Noised(500, 0).changed(image) for image in images])
        own, other = passed(vlm, ask, reply), passed(vlm, ask, reply, pixel_values=noised)
        mixed = (1 + alpha) * own - alpha * other
        return int(mixed.masked_fill(own < np.log(0.1) + own.max(), -torch.inf).argmax())

    check_choices(vlm, VCD.fit(contrasts(vlm)), chosen)


def check_choices(vlm: VLM, steerer: PAILogits | VCD, chosen: Callable[[Ask, list[int]], int]) -> None:
    """The reply is what the rule chooses, token by token, and not what the model says by itself."""
    prompts = [ask.prompt() for ask in ASKS]
    replies = steer(vlm, prompts, steerer, max_new_tokens=STEPS, eos_token_id=[])
    for ask, ids in zip(ASKS, replies.token_ids, strict=True):
        assert ids == [chosen(ask, ids[:step]) for step in range(STEPS)]
    assert replies.token_ids != vlm.generate(prompts, max_new_tokens=STEPS, eos_token_id=[]).token_ids


def check_cast_similarity(vlm: VLM, layer: int = 1) -> None:
    """The published gate: m the mean of unpadded tokens, g = tanh(P m), cos(m, g); and the cosine with its sign."""
    direction = torch.randn(vlm.d_model, generator=torch.Generator().manual_seed(0))
    for pool in ("prompt", "text", "last_prompt"):
        condition = Condition("a", layer, pool, "published", "above", 0.0)
        steerer = CAST(
            layer,
            0,
            vlm.fingerprint,
            directions=direction[None],
            vectors=torch.ones(1, 1, vlm.d_model),
            conditions=(condition,),
            behaviors=("a",),
            blocks=(0,),
            rules=(Rule("any", ("a",), "a"),),
        )
        states = run_once(vlm, [one.prompt() for one in ASKS], [steerer]).query(steerer).state(Read(Site(layer), pool))
        for row, one in enumerate(ASKS):
            inputs = own_inputs(vlm, [one])
            with torch.no_grad():
                hidden = vlm.model(**inputs, output_hidden_states=True).hidden_states[layer + 1][0].double().numpy()
            text = (inputs["input_ids"][0] != vlm.model.config.image_token_id).numpy()
            m = {"prompt": hidden.mean(0), "text": hidden[text].mean(0), "last_prompt": hidden[-1]}[pool]
            c = direction.double().numpy()
            g = np.tanh(np.outer(c, c) @ m / (c @ c))
            published = m @ g / np.linalg.norm(m) / np.linalg.norm(g)
            signed = m @ c / np.linalg.norm(m) / np.linalg.norm(c)
            close(states[row].double(), torch.from_numpy(m))
            close(similarity(states[row : row + 1], direction, "published").double(), torch.tensor([published]))
            close(similarity(states[row : row + 1], direction, "cosine").double(), torch.tensor([signed]))


def check_cast_direction(seed: int = 0) -> None:
    """The first principal component of all states, each pair's midpoint taken off, towards most positives."""
    generator = torch.Generator().manual_seed(seed)
    negative = torch.randn(40, 16, generator=generator)
    positive = negative + 2 * torch.randn(16, generator=generator) + torch.randn(40, 16, generator=generator)
    middle = (positive + negative) / 2
    states = torch.cat([positive - middle, negative - middle]).numpy()
    component = torch.from_numpy(PCA(n_components=1).fit(states).components_[0])
    if ((positive - negative) @ component > 0).float().mean() < 0.5:
        component = -component
    close(pairwise_direction(positive, negative), component.float())
    close(pairwise_direction(negative, positive), -component.float())
    repeated = against(positive[:7], negative)
    close(repeated, pairwise_direction(positive[torch.arange(40) % 7], negative))


def test_pai_raises_scores_as_eager_does(small: VLM) -> None:
    check_pai(small)


def test_adhh_drops_weights_as_eager_does(small: VLM) -> None:
    check_adhh(small)


def test_pai_mixes_logits_by_its_rule(small: VLM) -> None:
    check_pai_logits(small)


def test_vcd_mixes_logits_by_its_rule(small: VLM) -> None:
    check_vcd(small)


def test_cast_measures_similarity_by_its_rule(small: VLM) -> None:
    check_cast_similarity(small)


@pytest.mark.parametrize("seed", range(3))
def test_cast_finds_its_direction_by_its_rule(seed: int) -> None:
    check_cast_direction(seed)
