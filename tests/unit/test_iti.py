"""ITI pushes the heads that know the answer, along what they know, and no other column."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interv import VLM, Capture, Site
from methods import ITI, ask, capture_heads
from methods.head_contrasts import HeadContrasts
from methods.probes import probe_accuracy
from tests.baselines import fitted, heads, pairs, sixteen
from tests.property.reference import bitwise, close
from tests.tiny_models import HEADS, RANDOM, build

OPTIONS = {"max_new_tokens": 3, "eos_token_id": []}
SHAPE = (3, 4, 5)  # layers, heads, width


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def planted(seed: int, pairs: int = 40) -> HeadContrasts:
    """Noise, but for head (1, 2), where positives lie along one direction."""
    generator = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randn(pairs, *SHAPE, generator=generator) for _ in range(2))
    positive[:, 1, 2] += 4 * direction()
    return HeadContrasts(positive, negative, "f" * 16)


def direction() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.linspace(-1, 2, SHAPE[2]), dim=0)


def check_planted_head_is_found(seed: int = 0) -> None:
    """Its direction, and as sigma the spread of all projections on it."""
    train = planted(seed)
    iti = ITI.fit(train, validation=planted(seed + 100), share=0.01)
    assert iti.heads == ((1, 2),)
    shift = iti.shifts.view(1, *SHAPE[1:])[0]
    assert (shift[[0, 1, 3]] == 0).all()
    unit = torch.nn.functional.normalize((train.positive - train.negative)[:, 1, 2].mean(0), dim=0)
    assert torch.cosine_similarity(unit, direction(), dim=0) > 0.97
    both = torch.cat([train.positive, train.negative])[:, 1, 2]
    close(shift[2], (both @ unit).std() * unit)


def check_heads_are_judged_on_unseen_pairs(seed: int = 0) -> None:
    """A head that separates the training pairs alone loses to one that separates others."""
    train, validation = planted(seed), planted(seed + 100)
    train.positive[:, 0, 3] += 50 * direction()
    validation.negative[:, 0, 3] += 50 * direction()
    assert ITI.fit(train, validation=validation, share=0.01).heads == ((1, 2),)
    accuracy = probe_accuracy(train.positive, train.negative, validation.positive, validation.negative)
    assert accuracy[0, 3] == 0
    assert accuracy[1, 2] > 0.9


def check_chosen_heads_alone_change(vlm: VLM) -> None:
    """At the first of its blocks, from the last prompt token on, by alpha sigma u; keys have fewer heads than that."""
    steerer, prompts = fitted(vlm, "ITI"), sixteen("ITI")[:3]
    capture = Capture(Site(steerer.blocks[0], "hook_z"), "response")
    ops = ask(vlm, prompts, [steerer]).run(steerer, 0.5).ops
    plain, own = (vlm.generate(prompts, [*more, capture], **OPTIONS).captured[capture] for more in ((), ops))
    chosen = [head for block, head in steerer.heads if block == steerer.blocks[0]]
    others = [head for head in range(HEADS) if head not in chosen]
    shift = steerer.shifts[0].view(HEADS, -1)
    for before, after in zip(plain, own, strict=True):
        first, changed = (rows[0].reshape(HEADS, -1) for rows in (before, after))
        bitwise(changed[others], first[others])
        close(changed[chosen] - first[chosen], 0.5 * steerer.alpha * shift[chosen], 1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_planted_head_is_found(seed: int) -> None:
    check_planted_head_is_found(seed)


def test_heads_are_judged_on_unseen_pairs() -> None:
    check_heads_are_judged_on_unseen_pairs()


def test_chosen_heads_alone_change(small: VLM) -> None:
    check_chosen_heads_alone_change(small)


def test_without_validation_every_fifth_pair_judges() -> None:
    train = planted(0)
    judged, fitted_on = ([row for row in range(40) if (row % 5 == 0) == own] for own in (True, False))
    split = ITI.fit(train.rows(fitted_on), validation=train.rows(judged), share=0.3)
    assert ITI.fit(train, share=0.3).heads == split.heads
    with pytest.raises(ValueError, match="at least 5"):
        ITI.fit(train.rows([0, 1]))


def test_captured_heads_are_what_the_projection_is_given(small: VLM) -> None:
    """Of the last token of the completion alone, unpadded."""
    found = heads(small)
    given = []
    layer = small.model.model.language_model.layers[1].self_attn.o_proj
    handle = layer.register_forward_pre_hook(lambda module, args: given.append(args[0][0, -1]))
    try:
        for pair in pairs()[:3]:
            small.model(**small.encode([pair.positive]).model_inputs())
    finally:
        handle.remove()
    close(found.positive[:3, 1].flatten(1), torch.stack(given).detach())
    assert repr(found) == "HeadContrasts(pairs=12, layers=3, heads=4, width=8)"
    with pytest.raises(ValueError, match="no contrast pairs"):
        capture_heads(small, [])


def test_probes_are_ridge_logistic_regressions() -> None:
    train, unseen = planted(3), planted(4)
    accuracy = probe_accuracy(train.positive, train.negative, unseen.positive, unseen.negative)
    truth = torch.cat([torch.ones(40), torch.zeros(40)]).numpy()
    for layer, head in ((0, 0), (1, 2), (2, 1)):
        seen, other = (
            torch.cat([part.positive, part.negative])[:, layer, head].double().numpy() for part in (train, unseen)
        )
        scaler = StandardScaler().fit(seen)
        probe = LogisticRegression(C=1 / (0.01 * 80), max_iter=1000).fit(scaler.transform(seen), truth)
        assert abs(probe.score(scaler.transform(other), truth) - float(accuracy[layer, head])) <= 1 / 80
